//! `GET …/{plural}?template=csv|xlsx`: an empty table to fill in and import.
//!
//! Under the headings stands what each field is, and below that an example of what a cell looks like.
//! Both rows begin with `#`, so an import passes over them.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use serde_json::Value;

use super::cell::Cell;
use super::export::attachment;
use super::fields::{Field, Fields};
use super::format::FileFormat;
use super::{csv_file, xlsx_writer};
use crate::Api;
use crate::catalog::Resource;
use crate::error::{ApiError, Result};
use crate::schema::outline::Shape;

/// The longest description of a field, in characters.
const DESCRIPTION_CHARACTERS_MAX: usize = 300;
/// The most levels of references that are followed from one schema to the next.
const REFERENCES_MAX: usize = 16;

impl Api {
    /// The template of a kind. In a namespace, rows need not name one.
    pub(super) fn template(
        self: &Arc<Self>,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        format: FileFormat,
    ) -> Result<Response<Body>> {
        let catalog = self.catalog();
        let path = if resource.group.is_empty() { format!("api/{}", resource.version) } else { format!("apis/{}", resource.api_version()) };
        let document: Value = catalog
            .documents
            .openapi
            .document(&path)
            .and_then(|document| serde_json::from_slice(&document).ok())
            .ok_or_else(|| ApiError::internal("the schema of the kind cannot be read"))?;
        let schemas = Schemas { document: &document };
        let fields = Fields::of(resource);
        let mut columns: Vec<&Field> =
            fields.iter().filter(|field| !field.is_group && (namespace.is_none() || field.heading != "metadata.namespace")).collect();
        columns.sort_by_key(|field| !field.required);
        let root = schemas.of_kind(resource);
        let mut rows = [Vec::new(), Vec::new(), Vec::new()];
        for field in columns {
            let schema = root.and_then(|root| schemas.at(root, &field.path));
            rows[0].push(Cell::Text(field.heading.clone()));
            rows[1].push(Cell::Text(description(field, schema)));
            rows[2].push(example(field, schema).map_or(Cell::Empty, Cell::Text));
        }
        if let (Some(Cell::Text(explained)), Some(shown)) = (rows[1].first().cloned(), rows[2].first().cloned()) {
            rows[1][0] = Cell::Text(format!("# {explained}"));
            rows[2][0] = Cell::Text(format!("# for example: {}", shown.as_text()));
        }
        let bytes = match format {
            FileFormat::Csv => csv(&rows).map_err(|error| failed(&error))?,
            FileFormat::Xlsx => workbook(resource, &rows).map_err(|error| failed(&error))?,
            FileFormat::Json => return Err(ApiError::bad_request("template=json: must be csv or xlsx")),
        };
        let mut response = Response::new(Body::from(bytes));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, format.content_type());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        headers.insert(header::CONTENT_DISPOSITION, attachment(&format!("{}-template", resource.plural), format)?);
        Ok(response)
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ApiError {
    tracing::error!(error, "a template could not be written");
    ApiError::unavailable("the template could not be written; the server's log says why")
}

fn csv(rows: &[Vec<Cell>]) -> Result<Vec<u8>, csv::Error> {
    let mut bytes = csv_file::BYTE_ORDER_MARK.as_bytes().to_vec();
    bytes.extend(csv_file::write(rows)?);
    Ok(bytes)
}

fn workbook(resource: &Resource, rows: &[Vec<Cell>]) -> Result<Vec<u8>, rust_xlsxwriter::XlsxError> {
    use std::io::Read as _;

    let headings: Vec<String> = rows[0].iter().map(Cell::as_text).collect();
    let mut writer = xlsx_writer::Writer::new(&resource.plural, &headings)?;
    writer.write(&rows[1..])?;
    let mut bytes = Vec::new();
    writer.finish()?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a field is, for the person who fills it in.
fn description(field: &Field, schema: Option<&Value>) -> String {
    let mut parts = vec![if field.required { "required" } else { "may be empty" }.to_owned()];
    parts.push(
        match field.shape {
            Shape::Text => "a text",
            Shape::Integer => "a whole number",
            Shape::Number => "a number",
            Shape::Boolean => "true or false",
            Shape::IntegerOrText => "a whole number or a name",
            Shape::Quantity => "an amount such as 500m or 2Gi",
            Shape::TextMap => "pairs such as a=b, c=d",
            Shape::TextList => "texts such as a, b",
            Shape::Json => "JSON",
        }
        .to_owned(),
    );
    let schema = schema.unwrap_or(&Value::Null);
    if let Some(values) = schema["enum"].as_array() {
        parts.push(format!("one of {}", values.iter().map(shown).collect::<Vec<_>>().join(", ")));
    }
    if !schema["default"].is_null() {
        parts.push(format!("{} if empty", shown(&schema["default"])));
    }
    let mut text = parts.join("; ");
    if let Some(described) = schema["description"].as_str() {
        let line = described.split_whitespace().collect::<Vec<_>>().join(" ");
        text = format!("{text}. {}", line.chars().take(DESCRIPTION_CHARACTERS_MAX).collect::<String>());
    }
    text
}

/// What a cell of the field may look like.
fn example(field: &Field, schema: Option<&Value>) -> Option<String> {
    let schema = schema.unwrap_or(&Value::Null);
    let given = [&schema["example"], &schema["examples"][0], &schema["default"], &schema["enum"][0]];
    if let Some(given) = given.into_iter().find(|value| !value.is_null()) {
        return Some(Cell::of(field.shape, given).as_text());
    }
    match field.heading.as_str() {
        "metadata.name" => return Some("example".to_owned()),
        "metadata.namespace" => return Some("default".to_owned()),
        "metadata.labels" => return Some("team=vision, stage=test".to_owned()),
        _ => {}
    }
    let text = match field.shape {
        Shape::Integer => schema["minimum"].as_i64().unwrap_or(1).to_string(),
        Shape::Number => schema["minimum"].as_f64().unwrap_or(0.5).to_string(),
        Shape::Boolean => "true".to_owned(),
        Shape::Quantity | Shape::IntegerOrText => "1".to_owned(),
        // What a text, a map or anything else means only its description can tell.
        Shape::Text | Shape::TextMap | Shape::TextList | Shape::Json => return None,
    };
    Some(text)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The schemas of an OpenAPI document.
struct Schemas<'d> {
    document: &'d Value,
}

impl<'d> Schemas<'d> {
    fn of_kind(&self, resource: &Resource) -> Option<&'d Value> {
        let is_it = |schema: &&Value| {
            schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten().any(|of| {
                of["group"] == resource.group.as_str() && of["version"] == resource.version.as_str() && of["kind"] == resource.kind.as_str()
            })
        };
        self.document["components"]["schemas"].as_object()?.values().find(is_it)
    }

    /// The schema of what is at a path, with the words that are said of it there.
    fn at(&self, root: &'d Value, path: &[Box<str>]) -> Option<&'d Value> {
        let (last, above) = path.split_last()?;
        let mut schema = root;
        for name in above {
            schema = self.resolved(schema)["properties"].get(&**name)?;
        }
        let found = self.resolved(schema)["properties"].get(&**last)?;
        // A reference says what it is for; what it refers to, which values it takes.
        let says_more = found.get("description").is_some() && found.get("enum").is_none();
        let target = self.resolved(found);
        Some(if says_more && target.get("enum").is_none() { found } else { target })
    }

    /// What a schema refers to.
    fn resolved(&self, schema: &'d Value) -> &'d Value {
        let mut schema = schema;
        for _ in 0..REFERENCES_MAX {
            let reference = schema.get("$ref").or_else(|| schema["allOf"].get(0)?.get("$ref"));
            let target = reference.and_then(Value::as_str).and_then(|path| self.document.pointer(path.strip_prefix('#')?));
            match target {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }
}
