//! What might be changed, in words.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};

use super::description::{NODES_MAX, Nodes};
use super::queues;

/// A change to the cluster or to its work.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `add 4 nodes of 8 x H100`
    Add { count: usize, cards: usize, model: String },
    /// `remove 2 nodes of H100`
    Remove { count: usize, model: String },
    /// `give queue vision 60 %`: of what its parent is promised, or of all cards.
    Give { queue: String, percent: f64 },
    /// `load x 1.2`: work comes so many times as fast.
    Load(f64),
}

impl Change {
    /// Makes the change to the nodes; one to the load leaves them as they are.
    ///
    /// # Errors
    /// When the cluster cannot be changed so.
    pub fn apply(&self, nodes: &mut Nodes) -> Result<()> {
        match self {
            Self::Add { count, cards, model } => nodes.add_like(*count, *cards, model),
            Self::Remove { count, model } => nodes.remove(*count, model),
            Self::Give { queue, percent } => {
                let cards = nodes.cards();
                queues::give(&mut nodes.queues, queue, *percent, cards)
            }
            Self::Load(_) => Ok(()),
        }
    }
}

impl FromStr for Change {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = |word: &str| match word.parse::<usize>() {
            Ok(count) if (1..=NODES_MAX).contains(&count) => Ok(count),
            _ => bail!("{word} is no count of nodes or cards from 1 to {NODES_MAX}"),
        };
        match words[..] {
            ["add", number, "node" | "nodes", "of", cards, "x", model] => {
                Ok(Self::Add { count: count(number)?, cards: count(cards)?, model: model.to_owned() })
            }
            ["remove", number, "node" | "nodes", "of", model] => Ok(Self::Remove { count: count(number)?, model: model.to_owned() }),
            ["give", "queue", queue, percent, "%"] => {
                let percent: f64 = percent.parse().unwrap_or(f64::NAN);
                ensure!((0.0..=100.0).contains(&percent), "a queue can be given 0 to 100 %, as in `give queue vision 60 %`");
                Ok(Self::Give { queue: queue.to_owned(), percent })
            }
            ["load", "x", factor] => {
                let factor: f64 = factor.parse().unwrap_or(f64::NAN);
                ensure!((0.01..=100.0).contains(&factor), "a load can be multiplied by 0.01 to 100, as in `load x 1.2`");
                Ok(Self::Load(factor))
            }
            _ => bail!(
                "`{text}` is no change that is known: say `add 4 nodes of 8 x H100`, `remove 2 nodes of H100`, `give queue vision 60 %` or `load x 1.2`"
            ),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { count, cards, model } => write!(f, "add {count} nodes of {cards} x {model}"),
            Self::Remove { count, model } => write!(f, "remove {count} nodes of {model}"),
            Self::Give { queue, percent } => write!(f, "give queue {queue} {percent} %"),
            Self::Load(factor) => write!(f, "load x {factor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_written() {
        for text in ["add 4 nodes of 8 x H100", "remove 2 nodes of H100", "give queue vision 60 %", "load x 1.2"] {
            assert_eq!(text.parse::<Change>().expect("a change").to_string(), text);
        }
        for text in [
            "",
            "add nodes",
            "add 0 nodes of 8 x H100",
            "load x 0",
            "load x NaN",
            "give queue vision 101 %",
            "give queue vision 60",
            "remove -1 nodes of H100",
        ] {
            assert!(text.parse::<Change>().is_err(), "{text}");
        }
    }
}
