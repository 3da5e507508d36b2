//! Means, deviations and intervals of a handful of runs.

/// Mean and deviation of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub mean: f64,
    /// Of the sample (divided by n - 1); zero for one value.
    pub deviation: f64,
    pub count: usize,
}

impl Summary {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if count > 1 { (squares / (count - 1) as f64).sqrt() } else { 0.0 };
        Self { mean, deviation, count }
    }

    /// Half the width of the 95 % interval of the mean, by Student's t.
    pub fn half_interval(&self) -> f64 {
        if self.count < 2 {
            return f64::INFINITY;
        }
        student(self.count - 1) * self.deviation / (self.count as f64).sqrt()
    }
}

/// The difference `ours - theirs`, run by run.
pub fn paired(ours: &[f64], theirs: &[f64]) -> Summary {
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
    Summary::of(&differences)
}

/// The value below which a `part` (0 to 1) of the sorted values lies, nearest rank.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// 97.5 % point of Student's t.
fn student(freedom: usize) -> f64 {
    const POINTS: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
        2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    POINTS.get(freedom - 1).copied().unwrap_or(1.96)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_sample_has_the_interval_of_the_tables() {
        let summary = Summary::of(&[1.0, 2.0, 3.0, 4.0]);
        assert!((summary.mean - 2.5).abs() < 1e-12 && (summary.deviation - 1.290_994).abs() < 1e-6);
        assert!((summary.half_interval() - 2.054).abs() < 1e-3);
        assert!((quantile(&[1.0, 2.0, 3.0, 4.0], 0.5) - 2.0).abs() < 1e-12);
        assert!((paired(&[2.0, 3.0], &[1.0, 1.0]).mean - 1.5).abs() < 1e-12);
    }
}
