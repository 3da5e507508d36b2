//! Runs the scheduler's experiments.
use std::time::Instant;

use fermion_scheduler::scoring::Placement as P;
use fermion_sim::experiments::inflation;
use fermion_sim::statistics::Summary;
use fermion_sim::trace;

fn main() -> anyhow::Result<()> {
    let seeds: u64 = std::env::args().nth(1).map_or(3, |text| text.parse().expect("a number"));
    let folder = trace::folder(std::env::var_os("FERMION_TRACES").map(Into::into));
    for list in
        ["default", "cpu100", "cpu200", "gpushare40", "gpushare80", "gpuspec10", "gpuspec20", "gpuspec33", "multigpu20", "multigpu50"]
    {
        let trace = trace::openb::read(&folder, list)?;
        print!("{list:11}");
        for policy in [P::Random, P::DotProduct, P::Clustering, P::Packing, P::BestFit, P::FragmentationGradient, P::Scarcity] {
            let started = Instant::now();
            let runs: Vec<f64> = (42..42 + seeds).map(|seed| inflation::run(&trace, policy, seed).unallocated_at_100).collect();
            let s = Summary::of(&runs);
            print!(" {:6.2}±{:.2} ({:.1}s)", s.mean, s.deviation, started.elapsed().as_secs_f64() / seeds as f64);
        }
        println!();
    }
    Ok(())
}
