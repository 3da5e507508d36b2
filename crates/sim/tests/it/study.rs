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

/// Two queues share 32 cards. The first asks for all of them at once; the second comes an hour
/// later with what it is promised.
fn two_queues(test: &str) -> Study {
    let (cluster, trace) = files(test);
    let queues = "queues:\n- {name: vision, guarantee: 16}\n- {name: speech, guarantee: 16}\n";
    fs::write(&cluster, format!("{CLUSTER}{queues}")).expect("a file in the target folder");
    let early = (0..8).map(|_| "0,8,36000,vision,ann".to_owned());
    let late = (0..2).map(|_| "3600,8,3600,speech,bob".to_owned());
    let rows: Vec<String> = early.chain(late).collect();
    fs::write(&trace, format!("submitted_s,cards,run_s,queue,user\n{}\n", rows.join("\n"))).expect("a file in the target folder");
    let text = |path: &PathBuf| path.to_str().expect("a path in UTF-8").to_owned();
    Study::new(&text(&cluster), &text(&trace), Path::new("."), 0.9).expect("both files can be read")
}

#[test]
fn a_queue_has_back_what_it_is_promised_and_who_lent_it_runs_on_later() {
    let changes: Vec<Change> = ["give queue vision 100 %".parse().expect("a change")].into();
    let cases = two_queues("reclaimed").run(&changes).expect("the queues are there");
    let [as_it_is, all_to_one] = &cases[..] else { panic!("two cases") };
    let figures = |case: &Case, queue: usize| case.queues[queue].figures(&case.fates, &case.moments);
    let (vision, speech) = (figures(as_it_is, 0), figures(as_it_is, 1));
    assert_eq!((vision.count, speech.count), (8, 2));
    assert!(speech.p99_s < 1.0, "what is promised is had at once: {speech:?}");
    assert_eq!((vision.stops, speech.stops), (2, 0), "two of eight cards make place");
    assert!(as_it_is.fates.iter().all(|fate| fate.ended_at.is_some()), "what was stopped runs on");
    assert_eq!((all_to_one.queues[0].guarantee, all_to_one.queues[1].guarantee), (32, 0));
    let (vision, speech) = (figures(all_to_one, 0), figures(all_to_one, 1));
    assert_eq!((vision.stops, vision.got), (0, Some(100.0)));
    assert!(speech.p99_s > 3600.0 && speech.got.is_none(), "{speech:?}");
    for case in &cases {
        assert!(case.moments.iter().all(|moment| moment.cards <= i64::from(case.cards) * 1000));
    }
}

#[test]
fn queues_stand_in_the_table_in_json_and_in_the_picture() {
    let cases = two_queues("queues").run(&[]).expect("the queues are there");
    assert_eq!(report::queues(&cases).markdown().lines().count(), 4);
    assert_eq!(report::json(&cases)[0]["queues"][1]["name"], "speech");
    assert_eq!(plot::svg(&cases).matches("stroke-width=\"1.5\"").count(), 4, "two panels of all work and one for each queue");
}

#[test]
fn work_of_a_queue_that_is_not_there_is_refused() {
    let (cluster, trace) = files("unknown-queue");
    fs::write(&cluster, format!("{CLUSTER}queues:\n- {{name: vision}}\n")).expect("a file in the target folder");
    let study = || Study::new(cluster.to_str().expect("UTF-8"), trace.to_str().expect("UTF-8"), Path::new("."), 0.9);
    assert!(format!("{:#}", study().expect_err("no column says the queue")).contains("queue"));
    fs::write(&trace, "submitted_s,cards,run_s,queue\n0,1,10,music\n").expect("a file in the target folder");
    let error = study().expect("the files can be read").run(&[]).expect_err("there is no such queue");
    assert!(error.to_string().contains("`music`"), "{error}");
}
