//! Queries that both databases answer, written once.
//!
//! The two speak nearly the same SQL. Where they do not, [`Dialect`] says how each writes it.

use std::fmt::Write as _;

use serde_json::Value;

use crate::filter::{FieldTerm, Filter, LabelIs, LabelTerm, Order};
use crate::labels::{COUNTED_MAX, KEY_CHARS_MAX, VALUE_CHARS_MAX};
use crate::list::ListQuery;

/// Whose SQL is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// How [`crate::draft`] writes a string; the same text is the same string.
    fn json_text(self, value: &str) -> String {
        let text = serde_json::to_string(value).expect("a string serialises into memory");
        match self {
            Self::Sqlite => text,
            Self::Postgres => {
                postgres_json(value).map_or(text, |value| serde_json::to_string(&value).expect("a string serialises into memory"))
            }
        }
    }
}

/// A string without NUL, which PostgreSQL's JSON cannot hold; `None` if there is none in it.
pub(crate) fn postgres_json(value: &str) -> Option<String> {
    value.contains('\0').then(|| value.replace('\0', "\u{fffd}"))
}

/// A value beside the text of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Param {
    Text(String),
    Integer(i64),
}

/// A statement in the making.
#[derive(Clone, Debug)]
pub(crate) struct Sql {
    dialect: Dialect,
    pub(crate) text: String,
    pub(crate) params: Vec<Param>,
}

impl Sql {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, text: String::new(), params: Vec::new() }
    }

    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// A text as a parameter; never as part of the statement, whatever it holds.
    pub(crate) fn text(&mut self, value: impl Into<String>) -> &mut Self {
        self.bind(Param::Text(value.into()), "text")
    }

    pub(crate) fn integer(&mut self, value: i64) -> &mut Self {
        self.bind(Param::Integer(value), "bigint")
    }

    fn bind(&mut self, param: Param, kind: &str) -> &mut Self {
        self.params.push(param);
        match self.dialect {
            Dialect::Sqlite => self.text.push('?'),
            // Its kind is said because where a parameter stands does not always tell.
            Dialect::Postgres => write!(self.text, "${}::{kind}", self.params.len()).expect("a string takes every text"),
        }
        self
    }

    /// The conditions of a scope and of the place where a page begins, over the columns of `objects`
    /// or `log`. `false` if nothing can be in it.
    pub(crate) fn range(&mut self, query: &ListQuery) -> bool {
        let scope = &query.scope;
        self.push("resource = ").text(&*scope.resource);
        if let Some(namespace) = &scope.namespace {
            self.push(" AND namespace = ").text(&**namespace);
            // A comparison of pairs would keep SQLite from seeking to the name.
            match &query.start_after {
                Some((after, _)) if after.as_str() > &**namespace => return false,
                Some((after, name)) if after.as_str() == &**namespace => {
                    self.push(" AND name > ").text(name);
                }
                _ => {}
            }
        } else if let Some((namespace, name)) = &query.start_after {
            self.push(" AND (namespace, name) > (").text(namespace).push(", ").text(name).push(")");
        }
        if let Some(name) = &scope.name {
            self.push(" AND name = ").text(&**name);
        }
        true
    }

    /// `SELECT namespace, name, revision, body` of one page, and one object more if there is one. At
    /// `revision`, or as things are now; found by a label, if there is one to find them by.
    pub(crate) fn page(dialect: Dialect, query: &ListQuery, revision: Option<u64>, label: Option<&LabelTerm>) -> Option<Self> {
        let mut sql = Self::new(dialect);
        sql.push("SELECT s.namespace, s.name, s.revision, l.body FROM ");
        if !sql.matching(query, revision, label) {
            return None;
        }
        sql.push(" ORDER BY ");
        let direction = if let Some(order) = &query.order {
            sql.order(order);
            if order.descending { " DESC" } else { "" }
        } else {
            ""
        };
        sql.push("s.namespace").push(direction).push(", s.name").push(direction);
        if let Some(limit) = query.bound() {
            sql.push(" LIMIT ").integer(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
        } else if dialect == Dialect::Sqlite {
            // SQLite knows no offset without a limit.
            sql.push(" LIMIT -1");
        }
        if query.offset > 0 {
            sql.push(" OFFSET ").integer(i64::try_from(query.offset).unwrap_or(i64::MAX));
        }
        Some(sql)
    }

    /// `SELECT` the number of objects a query is about, after where its page begins.
    pub(crate) fn count(dialect: Dialect, query: &ListQuery, revision: Option<u64>, label: Option<&LabelTerm>) -> Option<Self> {
        let mut sql = Self::new(dialect);
        sql.push("SELECT count(*) FROM ");
        sql.matching(query, revision, label).then_some(sql)
    }

    /// `SELECT` how many objects of the query's range each term's label names, up to [`COUNTED_MAX`].
    pub(crate) fn label_counts(dialect: Dialect, query: &ListQuery, terms: &[&LabelTerm]) -> Option<Self> {
        let mut sql = Self::new(dialect);
        for (index, term) in terms.iter().enumerate() {
            sql.push(if index == 0 { "SELECT " } else { ", " }).push("(SELECT count(*) FROM (SELECT 1 FROM labels WHERE ");
            if !sql.range(query) {
                return None;
            }
            sql.labelled(term);
            sql.push(" LIMIT ").integer(i64::from(COUNTED_MAX)).push(") AS counted)");
        }
        Some(sql)
    }

    /// The same for a plain list, which needs nothing of the log; counts to `limit` and no further.
    pub(crate) fn bounded_count(dialect: Dialect, query: &ListQuery, revision: Option<u64>, limit: u64) -> Option<Self> {
        let mut sql = Self::new(dialect);
        sql.push("SELECT count(*) FROM (SELECT 1 FROM ");
        if !sql.versions(query, revision, None) {
            return None;
        }
        sql.push(" LIMIT ").integer(limit as i64).push(") AS counted");
        Some(sql)
    }

    /// `s`, the versions in the query's range, and `l`, their rows of the log, where they match.
    fn matching(&mut self, query: &ListQuery, revision: Option<u64>, label: Option<&LabelTerm>) -> bool {
        if !self.versions(query, revision, label) {
            return false;
        }
        match self.dialect {
            // In this order.
            Dialect::Sqlite => self.push(" CROSS JOIN log AS l ON l.revision = s.revision WHERE true"),
            Dialect::Postgres => self.push(" JOIN log AS l ON l.revision = s.revision WHERE true"),
        };
        self.filter(&query.filter);
        if let Some(search) = &query.search {
            self.search(search);
        }
        true
    }

    /// `s`, the versions in the query's range.
    fn versions(&mut self, query: &ListQuery, revision: Option<u64>, label: Option<&LabelTerm>) -> bool {
        self.push("(SELECT namespace, name, revision FROM ");
        match label {
            None => {
                self.push("objects WHERE ");
                if !self.range(query) {
                    return false;
                }
            }
            Some(label) => {
                // Each is looked up by its key: no plan can find another way.
                self.push(
                    "(SELECT namespace, name, (SELECT revision FROM objects WHERE objects.resource = labels.resource \
                     AND objects.namespace = labels.namespace AND objects.name = labels.name) AS revision FROM labels WHERE ",
                );
                if !self.range(query) {
                    return false;
                }
                self.labelled(label);
                self.push(") AS named WHERE true");
            }
        }
        if let Some(revision) = revision {
            let revision = revision as i64;
            // What was not changed since is as it is now; the first change since says what the others were.
            self.push(" AND revision <= ").integer(revision).push(" UNION ALL SELECT namespace, name, previous FROM (");
            match self.dialect {
                // SQLite takes the columns beside min() from the row that holds the minimum.
                Dialect::Sqlite => self.push("SELECT namespace, name, previous, min(revision) FROM log INDEXED BY log_by_resource WHERE "),
                Dialect::Postgres => self.push("SELECT DISTINCT ON (namespace, name) namespace, name, previous FROM log WHERE "),
            };
            self.range(query);
            self.push(" AND revision > ").integer(revision);
            match self.dialect {
                Dialect::Sqlite => self.push(" GROUP BY namespace, name"),
                Dialect::Postgres => self.push(" ORDER BY namespace, name, revision"),
            };
            self.push(") AS changed WHERE previous IS NOT NULL");
        }
        self.push(") AS s");
        true
    }

    /// The condition of a label over the columns of `labels`, which are cut.
    fn labelled(&mut self, term: &LabelTerm) {
        self.push(" AND key = ").cut(&term.key, KEY_CHARS_MAX);
        match &term.is {
            LabelIs::In(values) if values.len() == 1 => {
                self.push(" AND value = ").cut(&values[0], VALUE_CHARS_MAX);
            }
            LabelIs::In(values) => {
                self.push(" AND value IN (");
                for (index, value) in values.iter().enumerate() {
                    self.push(if index > 0 { ", " } else { "" }).cut(value, VALUE_CHARS_MAX);
                }
                self.push(")");
            }
            LabelIs::Present | LabelIs::NotIn(_) | LabelIs::Absent => {}
        }
    }

    /// A text's beginning, cut as the triggers of `labels` cut.
    fn cut(&mut self, value: &str, chars: u32) -> &mut Self {
        match self.dialect {
            Dialect::Sqlite => self.push("substr(").text(value).push(", 1, "),
            Dialect::Postgres => self.push("left(").text(postgres_json(value).unwrap_or_else(|| value.to_owned())).push(", "),
        };
        self.push(&chars.to_string()).push(")")
    }

    fn filter(&mut self, filter: &Filter) {
        for term in &filter.labels {
            self.push(" AND ");
            self.label(term);
        }
        for term in &filter.fields {
            self.push(" AND ");
            self.field(term);
        }
    }

    /// The JSON text of what is at a path of the version; NULL if nothing is.
    fn at(&mut self, path: &[&str]) {
        match self.dialect {
            Dialect::Sqlite => {
                let mut pointer = "$".to_owned();
                for name in path {
                    write!(pointer, ".\"{name}\"").expect("a string takes every text");
                }
                self.push("(CAST(l.body AS TEXT) -> ").text(pointer).push(")");
            }
            Dialect::Postgres => {
                self.push("(").push(POSTGRES_DOCUMENT);
                for name in path {
                    self.push(" -> ").text(*name);
                }
                self.push(")::text");
            }
        }
    }

    fn label(&mut self, term: &LabelTerm) {
        let path = ["metadata", "labels", term.key.as_str()];
        let values = match &term.is {
            LabelIs::Present | LabelIs::Absent => None,
            LabelIs::In(values) | LabelIs::NotIn(values) => Some(values.iter().map(|value| self.dialect.json_text(value)).collect()),
        };
        let negative = matches!(term.is, LabelIs::NotIn(_) | LabelIs::Absent);
        // What is not there is NULL, for which no comparison is true.
        self.push(if negative { "NOT coalesce(" } else { "coalesce(" });
        self.at(&path);
        match values {
            None => _ = self.push(" LIKE '\"%'"),
            Some(values) => self.among(values),
        }
        self.push(", false)");
    }

    fn among(&mut self, values: Vec<String>) {
        self.push(" IN (");
        for (index, value) in values.into_iter().enumerate() {
            self.push(if index > 0 { ", " } else { "" }).text(value);
        }
        if self.text.ends_with('(') {
            self.push("NULL");
        }
        self.push(")");
    }

    fn field(&mut self, term: &FieldTerm) {
        let path: Vec<&str> = term.path.iter().map(String::as_str).collect();
        let mut texts = vec![self.dialect.json_text(&term.value)];
        // The same text without quotes, where it can be a number or a boolean.
        if serde_json::from_str::<Value>(&term.value).is_ok_and(|value| value.is_number() || value.is_boolean()) {
            texts.push(term.value.clone());
        }
        self.push(if term.equal { "" } else { "NOT " }).push("(coalesce(");
        self.at(&path);
        self.among(texts);
        self.push(", false)");
        if term.value == term.absent {
            self.push(" OR coalesce(");
            self.at(&path);
            self.push(", 'null') = 'null' OR substr(");
            self.at(&path);
            self.push(", 1, 1) IN ('[', '{')");
        }
        self.push(")");
    }

    /// Name, namespace, or any string or number.
    fn search(&mut self, search: &str) {
        let search = search.to_ascii_lowercase();
        match self.dialect {
            Dialect::Sqlite => {
                for column in ["s.name", "s.namespace"] {
                    self.push(if column == "s.name" { " AND (" } else { " OR " });
                    self.push("instr(lower(").push(column).push("), ").text(search.as_str()).push(") > 0");
                }
                self.push(
                    " OR EXISTS (SELECT 1 FROM json_tree(json_remove(CAST(l.body AS TEXT), '$.metadata.managedFields')) AS leaf \
                     WHERE leaf.type IN ('text', 'integer', 'real') AND instr(lower(leaf.atom), ",
                );
                self.text(search).push(") > 0))");
            }
            Dialect::Postgres => {
                for column in ["s.name", "s.namespace"] {
                    self.push(if column == "s.name" { " AND (" } else { " OR " });
                    self.push("strpos(lower(").push(column).push("), ").text(search.as_str()).push(") > 0");
                }
                self.push(" OR EXISTS (SELECT 1 FROM jsonb_path_query((")
                    .push(POSTGRES_DOCUMENT)
                    .push(
                        ")::jsonb #- '{metadata,managedFields}', 'strict $.**') AS leaf \
                         WHERE jsonb_typeof(leaf) IN ('string', 'number') AND strpos(lower((leaf #>> '{}') COLLATE \"C\"), ",
                    )
                    .text(search)
                    .push(") > 0))");
            }
        }
    }

    /// Three keys for [`Order`]: what sort of value it is, its number, its text.
    fn order(&mut self, order: &Order) {
        let path: Vec<&str> = order.path.iter().map(String::as_str).collect();
        let direction = if order.descending { " DESC, " } else { ", " };
        self.push("CASE WHEN coalesce(");
        self.at(&path);
        self.push(", 'null') = 'null' OR substr(");
        self.at(&path);
        self.push(", 1, 1) IN ('[', '{') THEN 0 WHEN substr(");
        self.at(&path);
        self.push(", 1, 1) IN ('\"', 't', 'f') THEN 2 ELSE 1 END").push(direction);
        self.push("CASE WHEN substr(");
        self.at(&path);
        // A number begins with a digit or a minus.
        self.push(", 1, 1) IN ('-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9') THEN CAST(");
        self.at(&path);
        self.push(match self.dialect {
            Dialect::Sqlite => " AS NUMERIC) END",
            Dialect::Postgres => " AS double precision) END",
        });
        self.push(direction);
        match self.dialect {
            Dialect::Sqlite => {
                self.push("CASE substr(");
                self.at(&path);
                self.push(", 1, 1) WHEN '\"' THEN json_extract(");
                self.at(&path);
                self.push(", '$') WHEN 't' THEN 'true' WHEN 'f' THEN 'false' END");
            }
            Dialect::Postgres => {
                self.push("CASE WHEN substr(");
                self.at(&path);
                self.push(", 1, 1) IN ('\"', 't', 'f') THEN (");
                self.at(&path);
                self.push("::json #>> '{}') COLLATE \"C\" END");
            }
        }
        self.push(direction);
    }
}

/// A version's JSON on PostgreSQL, whose JSON holds no NUL: the few versions with one keep a second
/// text without (see `postgres/schema.rs`).
const POSTGRES_DOCUMENT: &str = "coalesce(l.document, convert_from(l.body, 'UTF8')::json)";
