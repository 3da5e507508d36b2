//! Lists as files: export, import and templates, for every kind in the same way.
//!
//! They stand at the address of the list itself, so that the same selectors, search and order apply
//! and the same rights are asked for:
//! - `GET …/{plural}?export=csv|xlsx|json` needs `list`;
//! - `GET …/{plural}?template=csv|xlsx` needs `list`, and tells nothing but the schema;
//! - `POST …/{plural}?import=csv|xlsx|json` needs `create` (with `mode=update`, `update`), and for
//!   every row the right to do what the row asks.
//!
//! Start with [`fields`]: the columns of a kind follow from its schema. [`cell`] says how one value is
//! written and read, [`portable`] what of an object is in a file at all, [`layout`] which columns an
//! export has. The forms of files are [`csv_file`], [`xlsx_writer`], [`xlsx_reader`], [`json_file`].
//!
//! Invariants
//! - Reading what was exported writes the same object.
//! - No row comes to the store but by the way of every other write.
//! - No value of a Secret is in an export; no cell of any file is in an error.
//! - Memory is bounded by a page of the list and by the bounds in [`rows`].

mod cell;
mod csv_file;
mod export;
mod fields;
mod format;
mod import;
mod json_file;
mod layout;
mod pages;
mod portable;
mod report;
mod rows;
mod sent_row;
mod template;
mod xlsx_reader;
mod xlsx_writer;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};

use crate::Api;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::identity::Identity;
use crate::request::{Query, Target, Verb};

pub(crate) use format::FileFormat;
pub(crate) use import::Mode;

/// A request about a list as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    Export(FileFormat),
    Template(FileFormat),
    Import(FileFormat, Mode),
}

impl Exchange {
    /// What a request asks, if it is about a list as a file.
    pub(crate) fn asked(verb: Verb, target: &Target, query: &Query) -> Result<Option<Self>> {
        if target.name.is_some() {
            return Ok(None);
        }
        match verb {
            Verb::List => {
                let export = FileFormat::asked(query, "export")?.map(Self::Export);
                Ok(export.or(FileFormat::asked(query, "template")?.map(Self::Template)))
            }
            Verb::Create => match FileFormat::asked(query, "import")? {
                Some(format) => Ok(Some(Self::Import(format, Mode::parse(query)?))),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The permission that is needed to ask this at all.
    pub(crate) fn verb(self) -> Verb {
        match self {
            Self::Export(_) | Self::Template(_) => Verb::List,
            Self::Import(_, Mode::Update) => Verb::Update,
            Self::Import(_, Mode::Create | Mode::Upsert) => Verb::Create,
        }
    }
}

impl Api {
    /// Answers a request about a list as a file. It is authorised by [`Exchange::verb`].
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        caller: &Identity,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        asked: Exchange,
        query: &Query,
        request: Request<Body>,
    ) -> Result<Response<Body>> {
        match asked {
            Exchange::Export(format) => self.export(resource, namespace, query, format).await,
            Exchange::Template(format) => self.template(resource, namespace, format),
            Exchange::Import(format, mode) => {
                for verb in ["create", "update"] {
                    if !resource.verbs.contains(&verb) {
                        return Err(ApiError::method_not_allowed(format!(
                            "{} cannot be imported: they do not support {verb}",
                            resource.plural
                        )));
                    }
                }
                self.import(caller, resource, namespace, (format, mode), query, request).await
            }
        }
    }
}
