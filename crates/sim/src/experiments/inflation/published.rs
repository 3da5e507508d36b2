//! What the authors measured.
//!
//! Weng et al., USENIX ATC 2023; the artifact's `experiments/analysis/expected_results/
//! analysis_allo_discrete.csv` at <https://github.com/hkust-adsl/kubernetes-scheduler-simulator>,
//! means of ten seeds.

/// Unallocated cards of one list of pods, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    pub list: &'static str,
    /// When as many cards were asked for as there are: Random, DotProd, Clustering, Packing,
    /// BestFit, FGD.
    pub at_100: [f64; 6],
    /// FGD's sample deviation there.
    pub fgd_deviation: f64,
    /// FGD's when 1.3 times as many were asked for.
    pub fgd_at_130: f64,
}

const fn of(list: &'static str, at_100: [f64; 6], fgd_deviation: f64, fgd_at_130: f64) -> Published {
    Published { list, at_100, fgd_deviation, fgd_at_130 }
}

/// The seventeen lists of the paper.
pub const PUBLISHED: [Published; 17] = [
    of("default", [13.70, 9.38, 8.35, 8.22, 7.14, 4.77], 0.11, 4.61),
    of("cpu050", [10.98, 6.97, 6.48, 6.54, 6.44, 5.00], 0.11, 4.79),
    of("cpu100", [12.57, 8.27, 7.58, 7.50, 6.74, 4.79], 0.14, 4.65),
    of("cpu200", [16.97, 12.55, 10.33, 10.02, 7.85, 5.18], 0.16, 4.96),
    of("cpu250", [20.00, 16.43, 12.25, 11.95, 8.79, 6.80], 0.29, 6.59),
    of("gpushare40", [15.14, 10.70, 10.24, 10.23, 8.56, 6.04], 0.07, 5.85),
    of("gpushare60", [17.19, 13.18, 13.10, 12.85, 10.94, 8.75], 0.13, 8.60),
    of("gpushare80", [19.38, 15.86, 15.50, 15.35, 13.34, 10.92], 0.11, 10.70),
    of("gpushare100", [21.10, 18.02, 17.78, 17.87, 15.38, 13.36], 0.16, 13.10),
    of("gpuspec10", [13.74, 9.83, 8.04, 7.76, 6.90, 5.34], 0.19, 5.05),
    of("gpuspec20", [14.10, 11.71, 10.89, 10.72, 11.54, 5.34], 0.13, 5.16),
    of("gpuspec25", [14.58, 14.56, 13.59, 13.23, 14.33, 6.09], 0.11, 5.26),
    of("gpuspec33", [16.13, 20.18, 18.91, 17.78, 19.61, 12.16], 0.18, 5.45),
    of("multigpu20", [13.08, 8.15, 6.66, 6.50, 6.27, 4.47], 0.16, 4.35),
    of("multigpu30", [13.37, 6.89, 5.45, 5.30, 5.43, 3.64], 0.10, 3.54),
    of("multigpu40", [14.62, 5.96, 4.65, 4.41, 4.90, 3.09], 0.10, 3.01),
    of("multigpu50", [18.72, 5.27, 4.31, 3.94, 4.38, 2.91], 0.11, 2.82),
];

/// The published values of a list.
pub fn published(list: &str) -> Option<&'static Published> {
    PUBLISHED.iter().find(|entry| entry.list == list)
}
