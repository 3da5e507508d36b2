//! Which objects of a kind a command is about: what `fermion get` and `fermion export` share.

use crate::connection::Session;
use crate::resources::Resource;

/// Options that narrow and order a list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArguments {
    /// In every namespace
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only objects whose labels fit, such as a=b,c!=d
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Only objects whose fields fit, such as status.phase=Running
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
    /// Only objects with this text in their name or in any of their values
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
    /// In the order of a field, such as spec.priority; with a minus before it, the other way round
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    pub(crate) sort_by: Option<String>,
}

impl ListArguments {
    /// The namespace of the list; none for all.
    pub(crate) fn namespace<'a>(&self, session: &'a Session) -> Option<&'a str> {
        (!self.all_namespaces).then_some(session.namespace.as_str())
    }

    /// The address of the list, with these options and more parameters.
    pub(crate) fn address<'a>(&self, resource: &Resource, session: &Session, more: impl IntoIterator<Item = (&'a str, String)>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let own = [
            ("labelSelector", &self.selector),
            ("fieldSelector", &self.field_selector),
            ("search", &self.search),
            ("sortBy", &self.sort_by),
        ];
        for (name, value) in own {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.extend_pairs(more);
        format!("{}?{}", resource.path(self.namespace(session)), query.finish())
    }
}
