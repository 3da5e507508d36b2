//! A price on cards that some can use and others need.
//!
//! The gradient looks at one node and at what is usually asked for, but not at how much there
//! is of each model. Where some requests name a model, those who accept any should leave it to
//! them: so a card costs the more, the larger the part of its model's supply that is asked for
//! by name.

use super::fragmentation::hundredths;
use super::{Mix, Scorer};
use crate::device::{ModelId, ModelSet, Models};
use crate::node::Node;
use crate::request::Request;

/// Into how many equal parts the demand of a shape is cut when it is spread over models.
const PORTIONS: u32 = 64;

/// Into how many steps equal gradients are told apart on nodes without cards.
const PLAIN: u32 = 1024;

/// The load of each model by those who name it, when all cards are asked for: 1 says that they
/// need all of its cards. The demand of a shape that names several models is spread so that
/// the most loaded of them is loaded least.
pub(super) fn prices(mix: &Mix, supply: &[u32]) -> Vec<f64> {
    let mut load = vec![0.0; supply.len()];
    let total: f64 = mix.shapes.iter().map(|(shape, weight)| weight * shape.demand() as f64).sum();
    let cards: u32 = supply.iter().sum();
    if total <= 0.0 || cards == 0 {
        return load;
    }
    // In cards, when the whole mix asks for as many as there are.
    let scale = f64::from(cards) / total;
    for (shape, weight) in mix.shapes.iter().filter(|(shape, _)| shape.cards > 0 && shape.models != ModelSet::ANY) {
        let portion = weight * shape.demand() as f64 * scale / f64::from(PORTIONS);
        for _ in 0..PORTIONS {
            let named = (0..supply.len()).filter(|&model| supply[model] > 0 && shape.models.holds(ModelId(model as u8)));
            let Some(least) = named.min_by(|&a, &b| load[a].total_cmp(&load[b])) else { break };
            load[least] += portion / f64::from(supply[least]);
        }
    }
    load
}

impl Scorer {
    /// The gradient less the price of the cards: a card that those who name its model all
    /// need counts as much as a card made useless. Who asks for none goes to nodes without
    /// cards where it does no worse, and there to the one with least left over.
    pub(super) fn scarcity(&self, node: &Node, request: &Request, models: &Models) -> (u32, Option<u8>) {
        let plain = request.devices.is_none() && node.devices.is_empty();
        let fit = if plain { PLAIN / 2 + ((1.0 - self.left_over(node, request)) * f64::from(PLAIN / 2 - 1)) as u32 } else { 0 };
        let price = self.price(node, request);
        self.best_gradient(node, request, models, |less| hundredths(less - price) * PLAIN + fit)
    }

    /// What the cards cost here beyond the cheapest place they could be had, in thousandths of
    /// a card.
    fn price(&self, node: &Node, request: &Request) -> f64 {
        let Some(devices) = request.devices else { return 0.0 };
        let fit = |model: ModelId| devices.models.holds(model).then(|| self.prices.get(usize::from(model.0)).copied()).flatten();
        let models = (0..self.supply.len()).filter(|&model| self.supply[model] > 0).map(|model| ModelId(model as u8));
        let cheapest = models.filter_map(fit).fold(f64::INFINITY, f64::min);
        let own = node.devices.iter().find_map(|device| fit(device.model)).unwrap_or(0.0);
        (own - cheapest).max(0.0) * request.cards() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::Shape;

    #[test]
    fn a_model_costs_what_part_of_it_is_asked_for_by_name() {
        let set = |models: &[u8]| models.iter().map(|model| ModelId(*model)).collect::<ModelSet>();
        let shape = |models| Shape { cpu: 0, cards: 1, compute: 1000, models };
        // 10 and 30 cards; a quarter of what is asked for names the first, a quarter either.
        let mix = Mix { shapes: vec![(shape(set(&[0])), 0.25), (shape(set(&[0, 1])), 0.25), (shape(ModelSet::ANY), 0.5)] };
        let prices = prices(&mix, &[10, 30]);
        assert!((prices[0] - 1.0).abs() < 1e-9 && (prices[1] - 1.0 / 3.0).abs() < 1e-9, "{prices:?}");
        assert_eq!(super::prices(&Mix::default(), &[10]), [0.0]);
    }
}
