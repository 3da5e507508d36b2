//! Questions about described clusters.

use std::fs;
use std::path::{Path, PathBuf};

use fermion_sim::study::change::Change;
use fermion_sim::study::{Case, Queue, Study, plot, report};

const CLUSTER: &str = "nodes:\n- {count: 4, cpu: 96, memoryGib: 768, cards: 8, model: H100}\n";

/// Forty jobs of eight cards, one an hour, each of which runs for eight.
fn files(test: &str) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let jobs: Vec<String> = (0..40).map(|job| format!("{},8,{}", job * 3600, 8 * 3600)).collect();
    let (cluster, trace) = (folder.join(format!("{test}.yaml")), folder.join(format!("{test}.csv")));
    fs::write(&cluster, CLUSTER).expect("a file in the target folder");
    fs::write(&trace, format!("submitted_s,cards,run_s\n{}\n", jobs.join("\n"))).expect("a file in the target folder");
    (cluster, trace)
}

fn study(test: &str) -> Study {
    let (cluster, trace) = files(test);
    let text = |path: &PathBuf| path.to_str().expect("a path in UTF-8").to_owned();
    Study::new(&text(&cluster), &text(&trace), Path::new("."), 0.9).expect("both files can be read")
}

fn p99_s(case: &Case) -> f64 {
    case.figures().classes.first().expect("there are jobs").p99_s
}

#[test]
fn twice_the_nodes_end_the_queue_and_half_of_them_lengthen_it() {
    let changes: Vec<Change> =
        ["add 4 nodes of 8 x H100", "remove 2 nodes of H100", "load x 0.25"].map(|text| text.parse().expect("a change")).into();
    let cases = study("nodes").run(&changes).expect("the changes can be made");
    let [as_it_is, twice, half, slower] = &cases[..] else { panic!("four cases") };
    assert_eq!((as_it_is.cards, twice.cards, half.cards), (32, 64, 16));
    assert!(p99_s(as_it_is) > 3600.0 && p99_s(half) > p99_s(as_it_is), "{} {}", p99_s(as_it_is), p99_s(half));
    assert!(p99_s(twice) < 1.0 && p99_s(slower) < 1.0, "{} {}", p99_s(twice), p99_s(slower));
    for case in &cases {
        let figures = case.figures();
        assert_eq!(figures.never_started, 0);
        assert!((0.0..=100.0).contains(&figures.utilisation) && (0.0..=1.0001).contains(&figures.fairness), "{figures:?}");
    }
    assert!(twice.figures().utilisation < as_it_is.figures().utilisation);
    assert_eq!(cases, study("again").run(&changes).expect("the changes can be made"), "the same question has the same answer");
}

#[test]
fn the_answer_comes_as_tables_as_json_and_as_a_picture() {
    let cases = study("forms").with_queue(Queue::Short).run(&["load x 2".parse().expect("a change")]).expect("a case and a change");
    assert_eq!(report::cases(&cases).markdown().lines().count(), 4);
    assert_eq!(report::json(&cases)[1]["case"], "load x 2");
    let picture = plot::svg(&cases);
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
    assert_eq!(picture.matches("stroke-width=\"1.5\"").count(), 4, "a line for each case in two panels");
    assert!(!picture.contains("NaN"));
}

#[test]
fn what_cannot_be_simulated_is_refused_with_its_cause() {
    let (cluster, trace) = files("refused");
    let refusal = |cluster: &str, trace: &str, load: f64| {
        format!("{:#}", Study::new(cluster, trace, Path::new("."), load).expect_err("it is refused"))
    };
    let (cluster, trace) = (cluster.to_str().expect("UTF-8"), trace.to_str().expect("UTF-8"));
    assert!(refusal("nowhere.yaml", trace, 0.9).contains("nowhere.yaml"));
    assert!(refusal(cluster, "nowhere.csv", 0.9).contains("nowhere.csv"));
    assert!(refusal(trace, trace, 0.9).contains("docs/guides/simulate.md"));
    assert!(refusal(cluster, trace, f64::NAN).contains("load"));
    let study = study("changes");
    let error = study.run(&["remove 9 nodes of H100".parse().expect("a change")]).expect_err("there are four");
    assert!(error.to_string().contains("4 nodes"), "{error}");
}
