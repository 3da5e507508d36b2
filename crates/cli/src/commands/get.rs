//! `fermion get`: objects of any kind, in the columns the server chooses.

use futures::AsyncBufReadExt as _;
use futures::io::AsyncBufRead;
use serde::Deserialize;
use serde_json::Value;

use super::delete::check_name;
use super::list::ListArguments;
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output::{self, Cell, Format, Style, Table};
use crate::resources::{Resource, Resources};

/// Objects asked for at once.
const PAGE: u64 = 500;
/// Media type of a list as rows for people.
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion get trainingjobs -A              every job of every namespace
  fermion get pods -l fermion.dev/training-job=digits
  fermion get tj --search vision --sort-by -metadata.creationTimestamp --limit 20
  fermion get job/digits -o yaml           everything about one object")]
pub(crate) struct GetArguments {
    /// Kinds, such as pods or tj,wl; or KIND/NAME; or a category such as all
    kind: String,
    /// Names; every object when left out
    names: Vec<String>,
    #[command(flatten)]
    list: ListArguments,
    /// At most so many objects; how many there are in all is told
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Which page of so many objects, from 1
    #[arg(long, value_name = "NUMBER", requires = "limit", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    page: u64,
    /// Go on and print changes
    #[arg(short, long, conflicts_with_all = ["search", "sort_by", "limit"])]
    watch: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// `meta.k8s.io/v1 Table`, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServerTable {
    kind: String,
    metadata: ListMeta,
    column_definitions: Vec<ColumnDefinition>,
    rows: Vec<Row>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
    remaining_item_count: Option<u64>,
}

/// Where a list goes on. A list in an order of its own is paged by numbers, at one revision.
struct Paging {
    limit: u64,
    offset: u64,
    /// Whether only this page is asked for.
    one_page: bool,
    sorted: bool,
    revision: String,
    next: String,
}

impl Paging {
    fn new(arguments: &GetArguments) -> Self {
        let limit = arguments.limit.unwrap_or(PAGE);
        Self {
            limit,
            offset: limit.saturating_mul(arguments.page - 1),
            one_page: arguments.limit.is_some(),
            sorted: arguments.list.sort_by.is_some(),
            revision: String::new(),
            next: String::new(),
        }
    }

    /// The parameters of the next page.
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("limit", self.limit.to_string())];
        if self.one_page {
            query.push(("count", "true".to_owned()));
        }
        if !self.next.is_empty() {
            query.push(("continue", self.next.clone()));
        } else if self.offset > 0 {
            query.push(("offset", self.offset.to_string()));
            if !self.revision.is_empty() {
                query.extend([("resourceVersion", self.revision.clone()), ("resourceVersionMatch", "Exact".to_owned())]);
            }
        }
        query
    }

    /// Goes on behind a page of so many objects; whether there is more to ask for.
    fn go_on(&mut self, page: &ListMeta, objects: u64) -> bool {
        if self.one_page {
            if let Some(remaining) = page.remaining_item_count {
                output::note(&told(self.offset, objects, remaining));
            }
            return false;
        }
        page.resource_version.clone_into(&mut self.revision);
        page.next.clone_into(&mut self.next);
        self.offset += objects;
        !self.next.is_empty() || (self.sorted && objects == self.limit)
    }
}

/// Which objects of how many are shown.
fn told(offset: u64, objects: u64, remaining: u64) -> String {
    let total = offset + objects + remaining;
    match objects {
        0 if offset > 0 => format!("there is no such page; the last object is before number {}", offset + 1),
        0 => "none of 0".to_owned(),
        _ => format!("{} to {} of {total}", offset + 1, offset + objects),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ColumnDefinition {
    name: String,
    #[serde(rename = "type")]
    type_: String,
    priority: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    cells: Vec<Value>,
    object: Value,
}

pub(crate) async fn run(arguments: GetArguments, session: &Session) -> Outcome<Exit> {
    let resources = Resources::discover(&session.client).await?;
    let (kinds, names) = match arguments.kind.split_once('/') {
        Some((kind, name)) if arguments.names.is_empty() => (kind, vec![name.to_owned()]),
        Some(_) => return Err(Failure::new("write KIND/NAME, or KIND and names").hint(format!("fermion get {} NAME", arguments.kind))),
        None => (arguments.kind.as_str(), arguments.names.clone()),
    };
    let mut chosen: Vec<&Resource> = Vec::new();
    for kind in kinds.split(',') {
        let category = resources.of_category(kind);
        if category.is_empty() { chosen.push(resources.find(kind)?) } else { chosen.extend(category) }
    }
    if arguments.watch && chosen.len() > 1 {
        return Err(Failure::new("only one kind can be watched at a time"));
    }
    for name in &names {
        check_name(name)?;
    }
    match arguments.output {
        Format::Table | Format::Wide => tables(&arguments, &chosen, &names, session).await,
        Format::Json | Format::Yaml => objects(&arguments, &chosen, &names, session).await,
        Format::Name => {
            for resource in chosen {
                for item in fetch(&arguments, resource, &names, session).await? {
                    output::line(&format!("{}/{}", resource.title(), item["metadata"]["name"].as_str().unwrap_or_default()))?;
                }
            }
            Ok(Exit::Done)
        }
    }
}

/// The address of one object.
fn address_of(arguments: &GetArguments, resource: &Resource, name: &str, session: &Session) -> String {
    format!("{}/{name}", resource.path(arguments.list.namespace(session)))
}

fn request(address: &str, accept: &str) -> Outcome<http::Request<Vec<u8>>> {
    http::Request::get(address)
        .header(http::header::ACCEPT, accept)
        .body(Vec::new())
        .map_err(|error| Failure::new("cannot write the request").because(error))
}

fn what(resource: &Resource, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("cannot read {} `{name}`", resource.title()),
        None => format!("cannot list {}", resource.api.plural),
    }
}

/// The objects themselves.
async fn fetch(arguments: &GetArguments, resource: &Resource, names: &[String], session: &Session) -> Outcome<Vec<Value>> {
    let mut items = Vec::new();
    for name in names {
        let address = address_of(arguments, resource, name, session);
        let object: Value = session.client.request(request(&address, "application/json")?).await.attempt(|| what(resource, Some(name)))?;
        items.push(object);
    }
    if !names.is_empty() {
        return Ok(items);
    }
    let mut paging = Paging::new(arguments);
    loop {
        let address = arguments.list.address(resource, session, paging.query());
        let mut list: Value = session.client.request(request(&address, "application/json")?).await.attempt(|| what(resource, None))?;
        let kind = list["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
        let version = list["apiVersion"].clone();
        let mut objects = 0;
        if let Some(page) = list["items"].as_array_mut() {
            objects = page.len() as u64;
            for item in page {
                // Items of a list may leave out what the list says for all of them.
                if item.get("kind").is_none() {
                    item["kind"] = Value::String(kind.clone());
                    item["apiVersion"] = version.clone();
                }
                items.push(item.take());
            }
        }
        let page = ListMeta::deserialize(&list["metadata"]).map_err(|error| Failure::new(what(resource, None)).because(error))?;
        if !paging.go_on(&page, objects) {
            return Ok(items);
        }
    }
}

async fn objects(arguments: &GetArguments, chosen: &[&Resource], names: &[String], session: &Session) -> Outcome<Exit> {
    let mut items = Vec::new();
    for resource in chosen {
        items.extend(fetch(arguments, resource, names, session).await?);
    }
    if names.len() == 1 && items.len() == 1 {
        output::structured(arguments.output, &items[0])?;
    } else {
        output::structured(arguments.output, &serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
    }
    Ok(Exit::Done)
}

async fn tables(arguments: &GetArguments, chosen: &[&Resource], names: &[String], session: &Session) -> Outcome<Exit> {
    let view = View { wide: arguments.output == Format::Wide, namespaces: arguments.list.all_namespaces, style: Style::of_stdout() };
    let mut shown = 0;
    for resource in chosen {
        let table = fetch_table(arguments, resource, names, session).await?;
        if !table.rows.is_empty() {
            if shown > 0 {
                output::line("")?;
            }
            let prefix = (chosen.len() > 1).then(|| resource.title());
            output::write(&view.render(&table, resource, prefix.as_deref(), true))?;
            shown += 1;
        }
        if arguments.watch {
            watch(arguments, resource, names, session, view, table).await?;
        }
    }
    if shown == 0 && !arguments.watch {
        let place = if arguments.list.all_namespaces || chosen.iter().all(|resource| !resource.namespaced) {
            "there are none".to_owned()
        } else {
            format!("there are none in namespace `{}`; -A looks in all", session.namespace)
        };
        output::note(&place);
    }
    Ok(Exit::Done)
}

async fn fetch_table(arguments: &GetArguments, resource: &Resource, names: &[String], session: &Session) -> Outcome<ServerTable> {
    let mut whole = ServerTable::default();
    let add = |page: ServerTable, whole: &mut ServerTable| {
        if whole.column_definitions.is_empty() {
            whole.column_definitions = page.column_definitions;
        }
        whole.rows.extend(page.rows);
        whole.metadata = page.metadata;
    };
    for name in names {
        let address = address_of(arguments, resource, name, session);
        let page = session.client.request(request(&address, AS_TABLE)?).await.attempt(|| what(resource, Some(name)))?;
        add(page, &mut whole);
    }
    let mut paging = Paging::new(arguments);
    while names.is_empty() {
        let address = arguments.list.address(resource, session, paging.query());
        let page: ServerTable = session.client.request(request(&address, AS_TABLE)?).await.attempt(|| what(resource, None))?;
        let objects = page.rows.len() as u64;
        add(page, &mut whole);
        if !paging.go_on(&whole.metadata, objects) {
            break;
        }
    }
    Ok(whole)
}

/// How rows are shown.
#[derive(Clone, Copy)]
struct View {
    wide: bool,
    namespaces: bool,
    style: Style,
}

impl View {
    fn render(self, table: &ServerTable, resource: &Resource, prefix: Option<&str>, headings: bool) -> String {
        let columns: Vec<usize> =
            (0..table.column_definitions.len()).filter(|index| self.wide || table.column_definitions[*index].priority == 0).collect();
        let with_namespace = self.namespaces && resource.namespaced;
        let mut names: Vec<String> = columns.iter().map(|index| table.column_definitions[*index].name.to_uppercase()).collect();
        if with_namespace {
            names.insert(0, "NAMESPACE".to_owned());
        }
        let mut shown = Table::with_headings(names);
        for row in &table.rows {
            let mut cells: Vec<Cell> = columns
                .iter()
                .map(|index| {
                    let column = &table.column_definitions[*index];
                    let text = text_of(row.cells.get(*index).unwrap_or(&Value::Null));
                    match (column.name.to_lowercase().as_str(), prefix) {
                        ("name", Some(prefix)) => Cell::new(format!("{prefix}/{text}")),
                        ("phase" | "status" | "state", _) => Cell::phase(text),
                        _ => Cell::new(text),
                    }
                })
                .collect();
            if with_namespace {
                cells.insert(0, Cell::new(row.object["metadata"]["namespace"].as_str().unwrap_or_default()));
            }
            shown.push(cells);
        }
        shown.render_rows(self.style, headings)
    }
}

/// A value of a table as it is shown.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        Value::Object(_) => value.to_string(),
    }
}

/// Prints a row for every change until interrupted.
async fn watch(
    arguments: &GetArguments,
    resource: &Resource,
    names: &[String],
    session: &Session,
    view: View,
    listed: ServerTable,
) -> Outcome<()> {
    let mut version = listed.metadata.resource_version.clone();
    let mut columns = listed.column_definitions;
    let selector = names.first().map(|name| format!("metadata.name={name}"));
    if names.len() > 1 {
        return Err(Failure::new("only one object, or all, can be watched at a time"));
    }
    let mut headings = columns.is_empty() || listed.rows.is_empty();
    loop {
        let mut more = vec![("watch", "true".to_owned()), ("resourceVersion", version.clone())];
        if let Some(selector) = &selector {
            more.push(("fieldSelector", selector.clone()));
        }
        let address = arguments.list.address(resource, session, more);
        let stream = session
            .client
            .request_stream(request(&address, AS_TABLE)?)
            .await
            .attempt(|| format!("cannot watch {}", resource.api.plural))?;
        let mut stream = std::pin::pin!(stream);
        // A watch that the server ends is begun again from where it was.
        while let Some(event) = next_event(&mut stream).await? {
            let kind = event["type"].as_str().unwrap_or_default();
            if kind == "ERROR" {
                let message = event["object"]["message"].as_str().unwrap_or("the server ended the watch").to_owned();
                return Err(Failure::new(format!("cannot go on watching {}", resource.api.plural))
                    .why(message)
                    .hint("start the command again"));
            }
            let mut table: ServerTable = serde_json::from_value(event["object"].clone()).unwrap_or_default();
            if table.kind != "Table" {
                if let Some(newer) = event["object"]["metadata"]["resourceVersion"].as_str() {
                    newer.clone_into(&mut version);
                }
                continue;
            }
            if let Some(newer) = table.rows.iter().rev().find_map(|row| row.object["metadata"]["resourceVersion"].as_str()) {
                newer.clone_into(&mut version);
            }
            if kind == "BOOKMARK" {
                continue;
            }
            if table.column_definitions.is_empty() {
                table.column_definitions = std::mem::take(&mut columns);
            }
            output::write(&view.render(&table, resource, None, headings))?;
            headings = false;
            columns = table.column_definitions;
        }
    }
}

async fn next_event(stream: &mut (impl AsyncBufRead + Unpin)) -> Outcome<Option<Value>> {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(0) => Ok(None),
        Ok(_) => serde_json::from_str(&line).map(Some).map_err(|error| Failure::new("cannot read what the server sent").because(error)),
        Err(error) => Err(Failure::new("lost the connection to the server")
            .because(error)
            .hint("start the command again")
            .with_exit(Exit::Unreachable)),
    }
}
