//! A snapshot laid out for the engine: each pool a cluster with what runs on it.
//!
//! Amounts of the snapshot are thousandths of a unit; here they are in the units of
//! [`resource`](crate::resource). What a pod asks of `gpu.fermion.dev/MODEL` is placed card by
//! card, and is counted beside as an amount like any other, so that several models can be
//! asked for at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) use crate::cards::CARDS;
use crate::cards::{self, CardHeld, NoCard};
use crate::cluster::{Cluster, NodeId};
use crate::device::{self, DeviceRequest, Each, Grant, Model, ModelSet, Models, WHOLE};
use crate::engine::{Engine, Members, Millis, Reservation, Running, WorkId};
use crate::gang::{self, Placed};
use crate::limits::Limits;
use crate::node::{Facts, Node as Host, Seat, manner};
use crate::placement;
use crate::planner::World;
use crate::queue::OverSubscribe;
use crate::request::{Constraints, Request};
use crate::resource::{Demand, ResourceId, Resources};
use crate::scoring::{Mix, Shape};
use crate::sharing::Sharing;
use crate::snapshot::{Amounts, Gang, Member, Milli, Node, PlacedMember, Pool, Queue};
use crate::titles::NamedShape;

/// The name of processors.
pub(crate) const CPU: &str = "cpu";
/// Thousandths in a unit.
const UNIT: Milli = 1000;

/// Running work of a gang: all that it cannot be without, a member beyond the minimum, or what
/// was told to stop.
pub(crate) struct Part {
    /// Slot of the gang.
    pub gang: usize,
    /// Its place among the parts of the gang.
    pub turn: usize,
    /// Ids of its members.
    pub members: Vec<String>,
    pub size: Demand,
    /// Whether the gang goes on without it.
    pub spare: bool,
    pub leaving: bool,
    pool: String,
    started_at: Millis,
    ends_at: Option<Millis>,
    parent: Option<WorkId>,
}

/// Who has seats on a node, in the order in which they take their cards: by gang, part and place
/// in the gang.
#[derive(Default)]
struct Site {
    pool: String,
    occupants: BTreeMap<(String, usize, usize), (usize, WorkId)>,
    /// What it has in use beside gangs.
    rest: Option<WorkId>,
}

/// Clusters by pool, and the numbers of what is named.
pub(crate) struct Table {
    resources: Resources,
    models: Models,
    pools: BTreeMap<String, Engine>,
    /// What runs.
    parts: BTreeMap<WorkId, Part>,
    sites: HashMap<String, Site>,
    /// Numbers of queues whose jobs share processors or have nodes alone, and how.
    sharing: HashMap<String, (u32, OverSubscribe)>,
    /// Nodes whose seats are to be given anew.
    touched: BTreeSet<String>,
    next: u64,
    /// Counts changes of nodes and of what runs on them.
    version: u64,
}

/// Numbers of gangs are their slots; all others are above.
const FRESH_MIN: u64 = 1 << 40;

impl Table {
    /// Lays out nodes; gangs are still to be put on them. Resources and models have their numbers
    /// in the order of their names, so that they are the same however often it is done.
    pub(crate) fn of(pools: &[Pool], queues: &[Queue], nodes: &[Node], models: &[Model], names: &BTreeSet<&str>) -> Self {
        let modes = queues.iter().enumerate().filter(|(_, queue)| queue.oversubscribe != OverSubscribe::No);
        let mut table = Self {
            resources: Resources::default(),
            models: Models::default(),
            pools: BTreeMap::new(),
            parts: BTreeMap::new(),
            sites: HashMap::new(),
            sharing: modes.map(|(number, queue)| (queue.name.clone(), (number as u32, queue.oversubscribe))).collect(),
            touched: BTreeSet::new(),
            next: FRESH_MIN,
            version: 0,
        };
        for name in names {
            if table.resources.len() < Resources::MAX {
                table.resources.intern(name);
            }
            if let Some(model) = name.strip_prefix(CARDS) {
                table.models.intern(model);
            }
        }
        for model in models {
            table.models.describe(model);
        }
        let names: BTreeSet<&str> = nodes.iter().map(|node| node.pool.as_str()).collect();
        for pool in names {
            let settings = pools.iter().find(|one| one.name == pool).cloned().unwrap_or_default();
            let mut cluster = Cluster::new(settings.placement, Mix::default());
            for node in nodes.iter().filter(|node| node.pool == pool) {
                let devices = cards::devices(&node.allocatable, &table.models);
                cluster.add(table.facts(node), devices);
                table.sites.insert(node.name.clone(), Site { pool: pool.to_owned(), ..Site::default() });
                table.touched.insert(node.name.clone());
            }
            table.pools.insert(pool.to_owned(), Engine::new(cluster, settings.backfill));
        }
        for engine in table.pools.values_mut() {
            engine.cluster().models = table.models.clone();
        }
        table
    }

    /// Whether all these names have their numbers, or there are no more to be had.
    pub(crate) fn knows<'n>(&self, mut names: impl Iterator<Item = &'n String>) -> bool {
        self.resources.len() >= Resources::MAX || names.all(|name| self.resources.id(name).is_some())
    }

    /// Gives seats to what is new, and begins a round in every pool.
    pub(crate) fn begin(&mut self, world: &World) {
        for name in std::mem::take(&mut self.touched) {
            self.seat_anew(&name, world);
            self.version += 1;
        }
        for engine in self.pools.values_mut() {
            engine.begin_round(world.now);
        }
    }

    /// Says what is usually asked for.
    pub(crate) fn set_mix(&mut self, pools: &[Pool], mix: &Mix) {
        for (name, engine) in &mut self.pools {
            let placement = pools.iter().find(|one| one.name == *name).map(|pool| pool.placement).unwrap_or_default();
            engine.cluster().set_scorer(placement, mix.clone());
        }
    }

    /// What a node is has changed, apart from what it has and where it stands.
    pub(crate) fn change_node(&mut self, node: &Node) {
        let facts = self.facts(node);
        if let Some(engine) = self.pools.get_mut(&node.pool)
            && let Some(id) = engine.node_id(&node.name)
        {
            engine.cluster().set_facts(id, facts);
        }
        self.touched.insert(node.name.clone());
        self.version += 1;
    }

    /// Takes in what a gang runs. Its seats are given with [`Table::begin`].
    pub(crate) fn put(&mut self, slot: usize, gang: &Gang) -> Vec<WorkId> {
        let mut parts: Vec<(Vec<usize>, bool, bool)> = Vec::new();
        let there = |member: &PlacedMember| self.sites.contains_key(&member.node);
        let places = || (0..gang.placed.len()).filter(|place| there(&gang.placed[*place]));
        let of = |spare: bool, leaving: bool| {
            places().filter(move |place| {
                let member = &gang.placed[*place];
                member.leaves_at.is_some() == leaving && (leaving || member.spare == spare)
            })
        };
        parts.push((of(false, false).collect(), false, false));
        parts.extend(of(true, false).map(|place| (vec![place], true, false)));
        parts.push((of(false, true).collect(), false, true));
        let mut ids = Vec::new();
        let parent = (!parts[0].0.is_empty()).then_some(WorkId(slot as u64));
        for (turn, (places, spare, leaving)) in parts.into_iter().enumerate() {
            let Some(first) = places.first() else { continue };
            let id = if turn == 0 { WorkId(slot as u64) } else { self.fresh() };
            let mut size = Demand::default();
            for place in &places {
                let member = &gang.placed[*place];
                size.add(&self.demand(&member.requests));
                let site = self.sites.get_mut(&member.node).expect("members were chosen by it");
                site.occupants.insert((gang.id.clone(), turn, *place), (slot, id));
                self.touched.insert(member.node.clone());
            }
            let leaves_at = places.iter().filter_map(|place| gang.placed[*place].leaves_at).max();
            let pool = self.sites[&gang.placed[*first].node].pool.clone();
            let part = Part {
                gang: slot,
                turn,
                members: places.iter().map(|place| gang.placed[*place].id.clone()).collect(),
                size,
                spare,
                leaving,
                pool,
                started_at: gang.started_at,
                ends_at: if leaving { leaves_at } else { gang.ends_at() },
                parent: parent.filter(|_| spare),
            };
            self.parts.insert(id, part);
            ids.push(id);
        }
        ids
    }

    /// Forgets what a gang runs.
    pub(crate) fn take(&mut self, gang: &Gang, parts: &[WorkId]) {
        for id in parts {
            let Some(part) = self.parts.remove(id) else { continue };
            // Members of another pool than the first were left out.
            if let Some(engine) = self.pools.get_mut(&part.pool) {
                engine.take_out(*id);
            }
        }
        for (place, member) in gang.placed.iter().enumerate() {
            let Some(site) = self.sites.get_mut(&member.node) else { continue };
            let from = (gang.id.clone(), 0, 0);
            let own: Vec<_> = site.occupants.range(from..).take_while(|(key, _)| key.0 == gang.id).map(|(key, _)| key.clone()).collect();
            for key in own.into_iter().filter(|key| key.2 == place) {
                site.occupants.remove(&key);
            }
            self.touched.insert(member.node.clone());
        }
    }

    /// Gives all who are on a node their seats there in their order, and counts the rest of what
    /// it has in use as one piece of work without a known end.
    fn seat_anew(&mut self, name: &str, world: &World) {
        let (Some(node), Some(site)) = (world.node(name), self.sites.remove(name)) else { return };
        let Some(mut engine) = self.pools.remove(&site.pool) else { return };
        if let Some(id) = engine.node_id(name) {
            let all: BTreeSet<WorkId> = site.occupants.values().map(|(_, work)| *work).chain(site.rest).collect();
            for work in &all {
                engine.leave_seats(*work, id);
            }
            let mut rest = node.used.clone();
            let members = site.occupants.iter().map(|((_, _, place), (slot, _))| &world.gang(*slot).placed[*place]);
            let known: Vec<CardHeld> = members.flat_map(|member| &member.cards).chain(&node.cards).cloned().collect();
            let known = engine.host(id).map(|host| cards::places(&host.devices, engine.models(), &known)).unwrap_or_default();
            for ((_, _, place), (slot, work)) in &site.occupants {
                let part = &self.parts[work];
                if part.pool != site.pool {
                    continue;
                }
                let member = &world.gang(*slot).placed[*place];
                for (name, amount) in &member.requests {
                    if let Some(left) = rest.get_mut(name) {
                        *left = left.saturating_sub(*amount);
                    }
                }
                let sharing = Some(self.sharing(*slot, world.gang(*slot)));
                if let Some(placed) = self.seat(&mut engine, name, (&member.requests, sharing), &member.cards, &known) {
                    let Part { started_at, ends_at, parent, .. } = *part;
                    engine.take_seat(*work, placed, Running { placed: Vec::new(), started_at, ends_at, parent });
                }
            }
            let work = site.rest.unwrap_or_else(|| self.fresh());
            if let Some(placed) = self.seat(&mut engine, name, (&rest, None), &node.cards, &known) {
                // As if it had begun just now, whenever that is.
                engine.take_seat(work, placed, Running { placed: Vec::new(), started_at: Millis::MAX, ends_at: None, parent: None });
            }
            self.sites.insert(name.to_owned(), Site { rest: Some(work), ..site });
        }
        let pool = node.pool.clone();
        self.pools.insert(pool, engine);
    }

    /// Ends what a round has started, and expects of who runs what was expected before.
    pub(crate) fn roll_back(&mut self, started: &[(String, WorkId)], leaving: &BTreeSet<WorkId>) {
        for (pool, id) in started {
            if let Some(engine) = self.pools.get_mut(pool) {
                engine.finish(*id);
            }
        }
        for id in leaving {
            if let Some(part) = self.parts.get(id)
                && let Some(engine) = self.pools.get_mut(&part.pool)
            {
                engine.expect_end(*id, part.ends_at);
            }
        }
    }

    /// A mix with the names of models.
    pub(crate) fn named(&self, mix: &Mix) -> Vec<NamedShape> {
        let name = |id| self.models.get(id).name.clone();
        let models = |set: ModelSet| (set != ModelSet::ANY).then(|| set.ids().map(name).collect());
        mix.shapes.iter().map(|(shape, part)| (shape.cpu, shape.cards, shape.compute, models(shape.models), *part)).collect()
    }

    /// The same with their numbers.
    pub(crate) fn numbered(&self, mix: &[NamedShape]) -> Mix {
        let set = |names: &Option<Vec<String>>| {
            let ids = names.as_ref().map(|names| names.iter().filter_map(|name| self.models.id(name)).collect());
            ids.unwrap_or(ModelSet::ANY)
        };
        let shape = |(cpu, cards, compute, models, part): &NamedShape| {
            (Shape { cpu: *cpu, cards: *cards, compute: *compute, models: set(models) }, *part)
        };
        Mix { shapes: mix.iter().map(shape).collect() }
    }

    /// Counts changes of nodes and of what runs on them.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn pool(&mut self, name: &str) -> Option<&mut Engine> {
        self.pools.get_mut(name)
    }

    /// What of the cards asked for no node of the pool has that is open to the member; `None` when
    /// one has, or when it asks for none.
    pub(crate) fn no_card(&self, pool: &str, member: &Member) -> Option<NoCard> {
        let engine = self.pools.get(pool)?;
        let request = self.request(member);
        let devices = request.devices?;
        let allowed = |host: &&Host| host.facts.open && request.constraints.allow(&host.facts.name, &host.facts.labels, &host.facts.taints);
        let hosts = || engine.hosts().filter(allowed);
        let has = hosts().any(|host| device::room(&host.devices, devices, engine.models(), 1) > 0);
        if has { None } else { cards::lack(hosts(), engine.models(), devices) }
    }

    /// What runs, by its number.
    pub(crate) fn parts(&self) -> &BTreeMap<WorkId, Part> {
        &self.parts
    }

    /// What a gang holds, apart from what it was told to give back.
    pub(crate) fn held(&self, gang: &Gang) -> Demand {
        let mut sum = Demand::default();
        for member in gang.placed.iter().filter(|member| member.leaves_at.is_none()) {
            sum.add(&self.demand(&member.requests));
        }
        sum
    }

    /// What members ask for together.
    pub(crate) fn asked(&self, members: &[&Member]) -> Demand {
        let mut sum = Demand::default();
        for member in members {
            sum.add(&self.demand(&member.requests));
        }
        sum
    }

    /// Amounts as bounds.
    pub(crate) fn limits(&self, amounts: &Amounts) -> Limits {
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

    /// A number that nothing else has.
    pub(crate) fn fresh(&mut self) -> WorkId {
        self.next += 1;
        WorkId(self.next)
    }

    /// Members as kinds of equal ones. With it, the places of each kind in turn.
    pub(crate) fn kinds(&self, members: &[&Member], sharing: Sharing) -> (Vec<Members>, Vec<Vec<usize>>) {
        let mut sets: Vec<Members> = Vec::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        for (place, member) in members.iter().enumerate() {
            let like = places.iter().position(|like| placement::same(members[like[0]], member));
            if let Some(like) = like {
                sets[like].count += 1;
                places[like].push(place);
            } else {
                sets.push(Members {
                    request: Request { sharing, ..self.request(member) },
                    count: 1,
                    per_node_max: member.alone.then_some(1),
                });
                places.push(vec![place]);
            }
        }
        (sets, places)
    }

    pub(crate) fn has_pool(&self, pool: &str) -> bool {
        self.pools.contains_key(pool)
    }

    fn request(&self, member: &Member) -> Request {
        let constraints = Constraints {
            selector: member.node_selector.clone(),
            affinity: member.affinity.clone(),
            tolerations: member.tolerations.clone(),
        };
        let devices = cards::asked(member, &self.models);
        let preferred = member.preferred.clone();
        Request { demand: self.demand(&member.requests), devices, constraints, preferred, sharing: Sharing::Own }
    }

    /// How the members of a gang share processors, by the mode of its queue.
    pub(crate) fn sharing(&self, slot: usize, gang: &Gang) -> Sharing {
        let job = slot as u64;
        match self.sharing.get(&gang.queue) {
            Some((group, mode)) if mode.shares(gang.oversubscribe) => {
                Sharing::Cores { group: *group, count: mode.jobs_per_core_max(), job }
            }
            Some((_, mode)) if mode.takes_whole_nodes() => Sharing::Node { job },
            _ => Sharing::Own,
        }
    }

    /// Whether a gang of this queue has its nodes to itself.
    pub(crate) fn takes_whole_nodes(&self, queue: &str) -> bool {
        self.sharing.get(queue).is_some_and(|(_, mode)| mode.takes_whole_nodes())
    }

    /// Whether any queue gives whole nodes.
    pub(crate) fn gives_whole_nodes(&self) -> bool {
        self.sharing.values().any(|(_, mode)| mode.takes_whole_nodes())
    }

    /// Thousandths of processors that members who share so can still have, on each node on which somebody shares,
    /// with no place kept for anybody.
    pub(crate) fn cores_beside(&mut self, pool: &str, sharing: Sharing) -> Vec<(String, i64)> {
        let of = |host: &Host| Some((host.facts.name.clone(), host.cores_beside(sharing)?));
        match self.pools.get_mut(pool) {
            Some(engine) if engine.hosts().any(|host| host.shared.is_shared()) => {
                engine.without_reservations(|engine| engine.hosts().filter_map(of).collect())
            }
            _ => Vec::new(),
        }
    }

    /// Whether no queue shares processors or gives whole nodes.
    pub(crate) fn is_plain(&self) -> bool {
        self.sharing.is_empty()
    }

    /// Slots of the gangs that run on this node.
    pub(crate) fn gangs_on(&self, node: &str) -> impl Iterator<Item = usize> {
        self.sites.get(node).into_iter().flat_map(|site| site.occupants.values().map(|(slot, _)| *slot))
    }

    pub(crate) fn demand(&self, amounts: &Amounts) -> Demand {
        amounts.iter().filter_map(|(name, amount)| Some((self.id(name)?, units(name, *amount)))).collect()
    }

    /// Names beyond the bound are not told apart from nothing; a cluster has some tens.
    pub(crate) fn id(&self, name: &str) -> Option<ResourceId> {
        self.resources.id(name)
    }

    fn facts(&self, node: &Node) -> Facts {
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

    /// A seat for what runs on a node already. Where it is not known which cards it has, they are
    /// taken where they are free and nobody else is known to have them.
    /// What is of no job has no way of sharing.
    fn seat(
        &self,
        engine: &mut Engine,
        node: &str,
        (amounts, sharing): (&Amounts, Option<Sharing>),
        held: &[CardHeld],
        known: &BTreeSet<u8>,
    ) -> Option<Placed> {
        let demand = self.demand(amounts);
        let id = engine.node_id(node)?;
        let host = engine.host(id)?;
        let grant = cards::grant(&host.devices, engine.models(), amounts, held, known);
        if demand.is_empty() && grant.is_empty() && !matches!(sharing, Some(Sharing::Node { .. })) {
            return None;
        }
        let whole = grant.iter().all(|held| held.compute == WHOLE && held.slices == 0);
        let each = if whole { Each::Whole } else { Each::Share { compute: 0, memory_mib: 0 } };
        let request = (!grant.is_empty()).then_some(DeviceRequest { models: ModelSet::ANY, count: grant.len() as u8, each });
        let placed = Placed {
            set: 0,
            node: id,
            seat: Seat { demand, grant, manner: manner(request), sharing: sharing.unwrap_or_default(), tenant: sharing.is_some() },
        };
        engine.put_early(&placed);
        Some(placed)
    }
}

impl Engine {
    /// Forgets running work, and nobody else; its seats are free.
    fn take_out(&mut self, id: WorkId) {
        let Some(running) = self.running.remove(&id) else { return };
        gang::unseat(&mut self.cluster, &running.placed);
        if let Some(parent) = running.parent {
            self.drop_member(parent, id);
        }
    }

    /// Frees the seats that work has on a node. It goes on without them, if it has others.
    fn leave_seats(&mut self, id: WorkId, node: NodeId) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let (gone, left): (Vec<Placed>, Vec<Placed>) = std::mem::take(&mut running.placed).into_iter().partition(|one| one.node == node);
        running.placed = left;
        let parent = running.parent;
        gang::unseat(&mut self.cluster, &gone);
        if self.running[&id].placed.is_empty() {
            self.running.remove(&id);
            if let Some(parent) = parent {
                self.drop_member(parent, id);
            }
        }
    }

    /// Counts a seat that was taken by [`Engine::put_early`] as one of this work.
    fn take_seat(&mut self, id: WorkId, placed: Placed, fresh: Running) {
        if let Some(parent) = fresh.parent {
            self.members.entry(parent).or_default().insert(id);
        }
        self.running.entry(id).or_insert(fresh).placed.push(placed);
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

    /// Nodes by name.
    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.cluster.nodes().map(|(_, node)| node)
    }

    /// What a grant on a node is, by names.
    pub(crate) fn cards_of(&self, id: NodeId, grant: &Grant) -> Vec<CardHeld> {
        self.cluster.node(id).map_or_else(Vec::new, |node| cards::held(node, &self.cluster.models, grant))
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

/// What is asked for, in units, rounded up where the unit is not a thousandth.
fn units(name: &str, amount: Milli) -> i64 {
    clamp(if in_thousandths(name) { amount } else { (amount.saturating_add(UNIT - 1)) / UNIT })
}

/// What there is, in units, rounded down.
fn whole_units(name: &str, amount: Milli) -> i64 {
    clamp(if in_thousandths(name) { amount } else { amount.div_euclid(UNIT) })
}

fn in_thousandths(name: &str) -> bool {
    name == CPU || name.starts_with(CARDS)
}

/// Far from where sums of a whole cluster would overflow.
fn clamp(amount: Milli) -> i64 {
    const MOST: Milli = 1 << 52;
    amount.clamp(0, MOST) as i64
}
