//! Values by server, number of objects and metric, kept as CSV.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The first line of the file.
const HEAD: &str = "server,objects,metric,unit,value";

/// One value, as the load generator prints it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::bench) struct Value {
    pub(in crate::bench) metric: String,
    pub(in crate::bench) unit: String,
    #[serde(rename = "value")]
    pub(in crate::bench) number: f64,
}

impl Value {
    pub(in crate::bench) fn of(metric: &str, unit: &str, number: f64) -> Self {
        Self { metric: metric.to_owned(), unit: unit.to_owned(), number }
    }
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) server: String,
    pub(super) objects: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values(pub(super) Vec<Measured>);

impl Values {
    /// What earlier runs found; nothing if there were none.
    pub(super) fn read(file: &Path) -> Result<Self> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not what this benchmark wrote: delete it", file.display()))
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, self.text()).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Fields hold quotes only where a metric's name has a comma.
    fn text(&self) -> String {
        let lines = self.0.iter().map(|Measured { server, objects, value }| {
            format!("{server},{objects},\"{}\",{},{:.2}\n", value.metric, value.unit, value.number)
        });
        std::iter::once(format!("{HEAD}\n")).chain(lines).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let lines = text.strip_prefix(HEAD)?.lines().filter(|line| !line.is_empty());
        lines.map(parse_line).collect::<Option<_>>().map(Self)
    }

    pub(super) fn forget(&mut self, server: &str) {
        self.0.retain(|measured| measured.server != server);
    }

    pub(super) fn add(&mut self, server: &str, objects: usize, values: Vec<Value>) {
        self.0.extend(values.into_iter().map(|value| Measured { server: server.to_owned(), objects, value }));
    }
}

fn parse_line(line: &str) -> Option<Measured> {
    let (server, rest) = line.split_once(',')?;
    let (objects, rest) = rest.split_once(",\"")?;
    let (metric, rest) = rest.split_once("\",")?;
    let (unit, value) = rest.split_once(',')?;
    Some(Measured { server: server.to_owned(), objects: objects.parse().ok()?, value: Value::of(metric, unit, value.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut values = Values::default();
        values.add("a", 1000, vec![Value::of("write, p99", "ms", 1.25), Value::of("gets", "1/s", 3.0)]);
        values.add("b", 1000, vec![Value::of("gets", "1/s", 4.0)]);
        assert_eq!(Values::parse(&values.text()), Some(values.clone()));
        assert_eq!(Values::parse("something else\n"), None);
        assert_eq!(Values::parse(&format!("{HEAD}\na,b,c\n")), None);
        values.forget("a");
        assert_eq!(values.0.len(), 1);
    }
}
