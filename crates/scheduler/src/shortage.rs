//! What lacks, how much and where, when members do not fit.

use crate::placement::{Class, Remaining, Rooms, Stuck, get, share};
use crate::snapshot::{Amounts, Milli, Node};

/// The resource that lacks most, in relation to what there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub resource: String,
    /// How much is asked for there.
    pub asked: Milli,
    /// How much there is for it there.
    pub available: Milli,
    /// `asked` minus `available`; above zero.
    pub missing: Milli,
    pub place: Place,
    /// How many members are to be placed together.
    pub members: usize,
}

/// Where something lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the sum over the nodes of the pool that suit. `asked` is what all members together
    /// ask for.
    Pool { pool: String },
    /// On every single node; this one comes nearest. `asked` is what one member asks for.
    Node {
        node: String,
        /// How many other members of the gang were given their place first.
        placed: usize,
    },
}

/// What the members lack in the sum over the nodes they may use; `None` when the sums do fit.
pub(crate) fn of_sums(classes: &[Class<'_>], rooms: Rooms<'_>) -> Option<(String, Milli, Milli)> {
    let mut asked = Amounts::new();
    let mut places = std::collections::BTreeSet::new();
    for class in classes {
        places.extend(class.suited.iter().copied());
        for (name, amount) in &class.member.requests {
            let sum = asked.entry(name.clone()).or_default();
            *sum = sum.saturating_add(amount.saturating_mul(class.ids.len() as Milli));
        }
    }
    let mut worst: Option<(f64, (String, Milli, Milli))> = None;
    for (name, asked) in asked.into_iter().filter(|(_, amount)| *amount > 0) {
        let sum = |part: &dyn Fn(usize) -> Milli| places.iter().fold(0, |sum: Milli, &place| sum.saturating_add(part(place)));
        let free = sum(&|place| get(&rooms.free[place], &name).max(0));
        let whole = sum(&|place| get(&rooms.nodes[place].allocatable, &name));
        if asked > free {
            let lack = share(asked.saturating_sub(free), whole);
            // Names come sorted; the first of equals stays.
            if worst.as_ref().is_none_or(|(most, _)| lack > *most) {
                worst = Some((lack, (name, asked, free)));
            }
        }
    }
    worst.map(|(_, found)| found)
}

/// What one member of a class lacks on the node that comes nearest to having room for it.
fn nearest(class: &Class<'_>, nodes: &[&Node], remaining: &Remaining<'_>) -> Option<(usize, String, Milli, Milli)> {
    let lack_on = |place: usize| {
        let mut worst: Option<(f64, String, Milli, Milli)> = None;
        for (name, &asked) in class.member.requests.iter().filter(|(_, amount)| **amount > 0) {
            let free = get(remaining.at(place), name).max(0);
            let lack = share(asked.saturating_sub(free), get(&nodes[place].allocatable, name));
            if asked > free && worst.as_ref().is_none_or(|(most, ..)| lack > *most) {
                worst = Some((lack, name.clone(), asked, free));
            }
        }
        worst
    };
    class
        .suited
        .iter()
        .filter_map(|&place| lack_on(place).map(|(lack, name, asked, free)| (lack, place, name, asked, free)))
        // `min_by` keeps the first of equals, and places come in order.
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, place, name, asked, free)| (place, name, asked, free))
}

/// The shortage that keeps members from being placed; `None` if no node suits some of them.
pub(crate) fn find(classes: &[Class<'_>], rooms: Rooms<'_>, stuck: &Stuck<'_>, pool: &str) -> Option<Shortage> {
    let members = classes.iter().map(|class| class.ids.len()).sum();
    // One member alone needs room on one node, so the sum over nodes would say too little.
    if members > 1
        && let Some((resource, asked, available)) = of_sums(classes, rooms)
    {
        let place = Place::Pool { pool: pool.to_owned() };
        return Some(Shortage { resource, asked, available, missing: asked.saturating_sub(available), place, members });
    }
    let (place, resource, asked, available) = nearest(&classes[stuck.class], rooms.nodes, &stuck.remaining)?;
    let place = Place::Node { node: rooms.nodes[place].name.clone(), placed: stuck.placed };
    Some(Shortage { resource, asked, available, missing: asked.saturating_sub(available), place, members })
}
