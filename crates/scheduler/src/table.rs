//! A snapshot laid out for the engine: each pool a cluster with what runs on it.
//!
//! Amounts of the snapshot are thousandths of a unit; here they are in the units of
//! [`resource`](crate::resource). What a pod asks of `gpu.fermion.dev/MODEL` is placed card by
//! card, and is counted beside as an amount like any other, so that several models can be
//! asked for at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::cluster::{Cluster, NodeId};
use crate::device::{DEVICES_MAX, Device, DeviceRequest, Each, Grant, Held, ModelId, ModelSet, Models, WHOLE};
use crate::engine::{Engine, Members, Reservation, Running, Work, WorkId};
use crate::gang::{self, Placed};
use crate::limits::Limits;
use crate::node::{Facts, Node as Host, Seat, manner};
use crate::request::{Constraints, Request};
use crate::resource::{Demand, ResourceId, Resources};
use crate::scoring::Mix;
use crate::snapshot::{Amounts, Gang, Member, Milli, Node, PlacedMember, Snapshot};

/// What names of accelerators begin with.
pub(crate) const CARDS: &str = "gpu.fermion.dev/";
/// Thousandths in a unit.
const UNIT: Milli = 1000;
/// The part of what runs and waits that decides which shapes are usual.
const USUAL: f64 = 0.95;

/// Running work of a gang: all that it cannot be without, a member beyond the minimum, or what
/// was told to stop.
pub(crate) struct Part<'s> {
    /// Place of the gang in the snapshot.
    pub gang: usize,
    pub members: Vec<&'s PlacedMember>,
    /// Whether the gang goes on without it.
    pub spare: bool,
    pub leaving: bool,
}

/// Clusters by pool, and the numbers of what is named.
pub(crate) struct Table<'s> {
    resources: Resources,
    pools: BTreeMap<String, Engine>,
    /// What pending members ask for, by their ids.
    requests: HashMap<&'s str, Request>,
    /// What runs.
    parts: BTreeMap<WorkId, Part<'s>>,
    next: u64,
}

impl<'s> Table<'s> {
    /// Lays out nodes and what runs on them.
    fn of(snapshot: &'s Snapshot) -> Self {
        let mut table = Self {
            resources: Resources::default(),
            pools: BTreeMap::new(),
            requests: HashMap::new(),
            parts: BTreeMap::new(),
            // Gangs themselves have the numbers of their places.
            next: snapshot.gangs.len() as u64,
        };
        let mut models = Models::default();
        let members = snapshot.gangs.iter().flat_map(|gang| &gang.sets).flat_map(|set| &set.pending);
        table.requests = members.map(|member| (member.id.as_str(), table.request(member, &mut models))).collect();
        let mix = Mix::typical(table.requests.values(), USUAL);
        let names: BTreeSet<&str> = snapshot.nodes.iter().map(|node| node.pool.as_str()).collect();
        for pool in names {
            let mut nodes: Vec<&Node> = snapshot.nodes.iter().filter(|node| node.pool == pool).collect();
            nodes.sort_by(|a, b| a.name.cmp(&b.name));
            let settings = snapshot.pools.iter().find(|one| one.name == pool).cloned().unwrap_or_default();
            let mut cluster = Cluster::new(settings.placement, mix.clone());
            for node in &nodes {
                let devices = devices(&node.allocatable, &mut models);
                cluster.add(table.facts(node), devices);
            }
            cluster.models = models.clone();
            let mut engine = Engine::new(cluster, settings.backfill);
            table.restore(&mut engine, snapshot, &nodes);
            table.pools.insert(pool.to_owned(), engine);
        }
        table
    }

    /// Lays out a snapshot and begins a round in every pool.
    pub(crate) fn begin(snapshot: &'s Snapshot) -> Self {
        let mut table = Self::of(snapshot);
        for engine in table.pools.values_mut() {
            engine.begin_round(snapshot.now);
        }
        table
    }

    pub(crate) fn pool(&mut self, name: &str) -> Option<&mut Engine> {
        self.pools.get_mut(name)
    }

    /// What runs, by its number.
    pub(crate) fn parts(&self) -> &BTreeMap<WorkId, Part<'s>> {
        &self.parts
    }

    /// What a gang holds, apart from what it was told to give back.
    pub(crate) fn held(&mut self, gang: &Gang) -> Demand {
        let mut sum = Demand::default();
        for member in gang.placed.iter().filter(|member| member.leaves_at.is_none()) {
            sum.add(&self.demand(&member.requests));
        }
        sum
    }

    /// What a part of running work holds.
    pub(crate) fn size(&self, part: &Part<'_>) -> Demand {
        let mut sum = Demand::default();
        for (name, amount) in part.members.iter().flat_map(|member| &member.requests) {
            if let Some(id) = self.resources.id(name) {
                sum.add(&[(id, units(name, *amount))].into_iter().collect());
            }
        }
        sum
    }

    /// What pending members ask for together.
    pub(crate) fn asked(&self, members: &[&Member]) -> Demand {
        let mut sum = Demand::default();
        for member in members {
            sum.add(&self.requests[member.id.as_str()].demand);
        }
        sum
    }

    /// Amounts as bounds.
    pub(crate) fn limits(&mut self, amounts: &Amounts) -> Limits {
        amounts.iter().filter_map(|(name, amount)| Some((self.id(name)?, whole_units(name, *amount)))).collect()
    }

    /// The name of a resource.
    pub(crate) fn name(&self, id: ResourceId) -> &str {
        self.resources.name(id)
    }

    /// An amount of a resource as snapshots have it.
    pub(crate) fn milli(&self, id: ResourceId, amount: i64) -> Milli {
        Milli::from(amount) * if in_thousandths(self.name(id)) { 1 } else { UNIT }
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = (ResourceId, &str)> + '_ {
        (0..self.resources.len()).map(|place| ResourceId(place as u16)).map(|id| (id, self.resources.name(id)))
    }

    /// A number that nothing else has.
    pub(crate) fn fresh(&mut self) -> WorkId {
        self.next += 1;
        WorkId(self.next)
    }

    /// Members as work; equal ones together. With it, the ids of each kind of member in turn.
    pub(crate) fn work<'m>(
        &self,
        id: WorkId,
        pool: &str,
        gang: &Gang,
        members: &[&'m Member],
        waits: bool,
    ) -> Option<(Work, Vec<Vec<&'m str>>)> {
        if !self.pools.contains_key(pool) {
            return None;
        }
        let mut sets: Vec<Members> = Vec::new();
        let mut ids: Vec<Vec<&str>> = Vec::new();
        for member in members {
            let request = &self.requests[member.id.as_str()];
            if let Some(place) = sets.iter().position(|set| set.request == *request) {
                sets[place].count += 1;
                ids[place].push(&member.id);
            } else {
                sets.push(Members { request: request.clone(), count: 1, per_node_max: None });
                ids.push(vec![&member.id]);
            }
        }
        let topology = if waits { gang.topology } else { gang::Topology::default() };
        Some((Work { run_ms: gang.run_ms, topology, waits, ..Work::new(id, sets) }, ids))
    }

    fn request(&mut self, member: &Member, models: &mut Models) -> Request {
        let constraints = Constraints {
            selector: member.node_selector.clone(),
            affinity: member.affinity.clone(),
            tolerations: member.tolerations.clone(),
        };
        let mut cards = member.requests.iter().filter_map(|(name, amount)| Some((name.strip_prefix(CARDS)?, *amount)));
        let devices = cards.find_map(|(model, amount)| {
            let count = u8::try_from(amount / UNIT).ok().filter(|count| usize::from(*count) <= DEVICES_MAX && *count > 0)?;
            let models: ModelSet = models.intern(model).into_iter().collect();
            Some(DeviceRequest { models, count, each: Each::Whole })
        });
        Request { demand: self.demand(&member.requests), devices, constraints }
    }

    fn demand(&mut self, amounts: &Amounts) -> Demand {
        amounts.iter().filter_map(|(name, amount)| Some((self.id(name)?, units(name, *amount)))).collect()
    }

    /// Names beyond the bound are not told apart from nothing; a cluster has some tens.
    pub(crate) fn id(&mut self, name: &str) -> Option<ResourceId> {
        self.resources.id(name).or_else(|| (self.resources.len() < Resources::MAX).then(|| self.resources.intern(name)))
    }

    fn facts(&mut self, node: &Node) -> Facts {
        let amounts = node.allocatable.iter().filter_map(|(name, amount)| Some((self.id(name)?, whole_units(name, *amount))));
        let allocatable = amounts.collect();
        Facts {
            name: node.name.clone(),
            labels: node.labels.clone(),
            taints: node.taints.clone(),
            open: node.ready && node.schedulable,
            allocatable,
            domains: node.domains.clone(),
        }
    }

    /// Seats what runs: gangs whose members are known, and the rest of what each node has in
    /// use as one piece of work without a known end.
    fn restore(&mut self, engine: &mut Engine, snapshot: &'s Snapshot, nodes: &[&Node]) {
        let mut rest: BTreeMap<&str, Amounts> = nodes.iter().map(|node| (node.name.as_str(), node.used.clone())).collect();
        for (place, gang) in snapshot.gangs.iter().enumerate() {
            let mut members: Vec<&PlacedMember> = Vec::new();
            for member in &gang.placed {
                let Some(rest) = rest.get_mut(member.node.as_str()) else { continue };
                for (name, amount) in &member.requests {
                    if let Some(left) = rest.get_mut(name) {
                        *left = left.saturating_sub(*amount);
                    }
                }
                members.push(member);
            }
            let (leaving, staying): (Vec<_>, Vec<_>) = members.into_iter().partition(|member| member.leaves_at.is_some());
            let (spare, needed): (Vec<_>, Vec<_>) = staying.into_iter().partition(|member| member.spare);
            let parent = (!needed.is_empty()).then_some(WorkId(place as u64));
            self.run_part(engine, parent, gang, Part { gang: place, members: needed, spare: false, leaving: false }, None);
            for member in spare {
                let id = Some(self.fresh());
                self.run_part(engine, id, gang, Part { gang: place, members: vec![member], spare: true, leaving: false }, parent);
            }
            let id = (!leaving.is_empty()).then(|| self.fresh());
            self.run_part(engine, id, gang, Part { gang: place, members: leaving, spare: false, leaving: true }, None);
        }
        for (node, amounts) in rest {
            let placed: Vec<Placed> = self.seat(engine, node, &amounts).into_iter().collect();
            let id = self.fresh();
            run(engine, id, Running { placed, started_at: snapshot.now, ends_at: None, parent: None });
        }
    }

    fn run_part(&mut self, engine: &mut Engine, id: Option<WorkId>, gang: &Gang, part: Part<'s>, parent: Option<WorkId>) {
        let Some(id) = id else { return };
        let placed = part.members.iter().filter_map(|member| self.seat(engine, &member.node, &member.requests)).collect();
        let leaves_at = part.members.iter().filter_map(|member| member.leaves_at).max();
        let ends_at = if part.leaving { leaves_at } else { gang.ends_at() };
        if run(engine, id, Running { placed, started_at: gang.started_at, ends_at, parent }) {
            self.parts.insert(id, part);
        }
    }

    /// A seat for what runs on a node already. Cards are taken where they are free: which ones
    /// it has is not known.
    fn seat(&mut self, engine: &mut Engine, node: &str, amounts: &Amounts) -> Option<Placed> {
        let demand = self.demand(amounts);
        let id = engine.node_id(node)?;
        let host = engine.host(id)?;
        let mut grant = Grant::new();
        for (name, amount) in amounts {
            let Some(model) = name.strip_prefix(CARDS).and_then(|model| engine.models().id(model)) else { continue };
            let idle = host.devices.iter().enumerate().filter(|(_, device)| device.model == model && device.is_idle());
            let count = usize::try_from((*amount + UNIT - 1) / UNIT).unwrap_or(0);
            grant.extend(idle.take(count).map(|(place, device)| Held {
                device: place as u8,
                compute: WHOLE,
                memory_mib: device.memory_mib,
                slices: 0,
            }));
        }
        if demand.is_empty() && grant.is_empty() {
            return None;
        }
        let cards = (!grant.is_empty()).then_some(DeviceRequest { models: ModelSet::ANY, count: grant.len() as u8, each: Each::Whole });
        let placed = Placed { set: 0, node: id, seat: Seat { demand, grant, manner: manner(cards) } };
        engine.put_early(&placed);
        Some(placed)
    }
}

/// Counts what has its seats as running; answers whether it has any.
fn run(engine: &mut Engine, id: WorkId, running: Running) -> bool {
    let any = !running.placed.is_empty();
    if any {
        engine.adopt(id, running);
    }
    any
}

impl Engine {
    /// Takes in running work whose seats were taken by [`Engine::put_early`].
    fn adopt(&mut self, id: WorkId, running: Running) {
        if let Some(parent) = running.parent {
            self.members.entry(parent).or_default().insert(id);
        }
        self.running.insert(id, running);
    }

    fn put_early(&mut self, placed: &Placed) {
        self.cluster.put(placed.node, &placed.seat);
    }

    fn node_id(&self, name: &str) -> Option<NodeId> {
        self.cluster.id(name)
    }

    fn host(&self, id: NodeId) -> Option<&Host> {
        self.cluster.node(id)
    }

    fn models(&self) -> &Models {
        &self.cluster.models
    }

    /// Whether the run times of all that a reservation waits for are known.
    pub(crate) fn is_certain(&self, reservation: &Reservation) -> bool {
        reservation.awaits().iter().all(|id| self.running.get(id).is_some_and(|running| running.ends_at.is_some()))
    }

    /// The name of a node that is there.
    pub(crate) fn node_name(&self, id: NodeId) -> &str {
        self.cluster.node(id).map_or("", |node| node.facts.name.as_str())
    }
}

fn devices(amounts: &Amounts, models: &mut Models) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    for (name, amount) in amounts {
        let model: Option<ModelId> = name.strip_prefix(CARDS).and_then(|model| models.intern(model));
        let Some(model) = model else { continue };
        let count = usize::try_from(*amount / UNIT).unwrap_or(0).min(DEVICES_MAX - devices.len());
        devices.extend(std::iter::repeat_n(Device::new(model, 0), count));
    }
    devices
}

/// What is asked for, in units, rounded up where the unit is not a thousandth.
fn units(name: &str, amount: Milli) -> i64 {
    clamp(if in_thousandths(name) { amount } else { (amount.saturating_add(UNIT - 1)) / UNIT })
}

/// What there is, in units, rounded down.
fn whole_units(name: &str, amount: Milli) -> i64 {
    clamp(if in_thousandths(name) { amount } else { amount.div_euclid(UNIT) })
}

fn in_thousandths(name: &str) -> bool {
    name == "cpu" || name.starts_with(CARDS)
}

/// Far from where sums of a whole cluster would overflow.
fn clamp(amount: Milli) -> i64 {
    const MOST: Milli = 1 << 52;
    amount.clamp(0, MOST) as i64
}
