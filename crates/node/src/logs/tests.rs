use super::*;

fn log(directory: &Path, name: &str, lines: &[&str]) -> PathBuf {
    let path = directory.join(name);
    let mut text = lines.join("\n");
    text.push('\n');
    fs::write(&path, text).expect("written");
    path
}

async fn read(path: &Path, options: Options) -> String {
    let mut output = stream(path.to_owned(), options, || std::future::ready(false));
    let mut text = Vec::new();
    while let Some(chunk) = output.recv().await {
        text.extend_from_slice(&chunk.expect("readable"));
    }
    String::from_utf8(text).expect("text")
}

const A: &str = "2024-01-01T00:00:01.000000000Z stdout F one";
const B: &str = "2024-01-01T00:00:02.000000000Z stderr F two";
const C1: &str = "2024-01-01T00:00:03.000000000Z stdout P thr";
const C2: &str = "2024-01-01T00:00:04.000000000Z stdout F ee";
const D: &str = "2024-01-01T00:00:05.000000000Z stdout F ";

#[test]
fn lines_of_the_cri_form_are_read() {
    let line = parse(b"2024-01-01T00:00:01Z stdout F a b").expect("a line");
    assert_eq!((line.time, line.full, line.text), ("2024-01-01T00:00:01Z", true, b"a b".as_slice()));
    assert!(parse(b"2024-01-01T00:00:01Z stdout P:x a").is_some_and(|line| !line.full));
    assert!(parse(b"2024-01-01T00:00:01Z stdout F").is_some_and(|line| line.text.is_empty()));
    assert_eq!(parse(b"nonsense"), None);
}

#[tokio::test]
async fn options_select_the_right_part() {
    let place = tempfile::tempdir().expect("a directory");
    log(place.path(), "0.log.20240101-000000", &[A]);
    let path = log(place.path(), "0.log", &[B, C1, C2, D]);
    let all = "one\ntwo\nthree\n\n";
    let at = |text: &str| text.parse::<Timestamp>().ok();
    for (options, expected) in [
        (Options::default(), all),
        (Options { tail_lines: Some(0), ..Options::default() }, ""),
        (Options { tail_lines: Some(1), ..Options::default() }, "\n"),
        (Options { tail_lines: Some(2), ..Options::default() }, "three\n\n"),
        (Options { tail_lines: Some(3), ..Options::default() }, "two\nthree\n\n"),
        (Options { tail_lines: Some(4), ..Options::default() }, all),
        (Options { tail_lines: Some(9), ..Options::default() }, all),
        (Options { limit_bytes: Some(6), ..Options::default() }, "one\ntw"),
        (Options { since: at("2024-01-01T00:00:03Z"), ..Options::default() }, "three\n\n"),
        (
            Options { timestamps: true, tail_lines: Some(2), ..Options::default() },
            "2024-01-01T00:00:03.000000000Z three\n2024-01-01T00:00:05.000000000Z \n",
        ),
    ] {
        assert_eq!(read(&path, options.clone()).await, expected, "{options:?}");
    }
}

#[tokio::test]
async fn following_survives_rotation_and_ends_with_the_container() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = tempfile::tempdir().expect("a directory");
    let path = log(place.path(), "0.log", &[A]);
    let running = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&running);
    let options = Options { follow: true, ..Options::default() };
    let mut output = stream(path.clone(), options, move || std::future::ready(asked.load(Ordering::Relaxed)));
    assert_eq!(output.recv().await.expect("a chunk").expect("readable"), "one\n");
    fs::rename(&path, place.path().join("0.log.20240101-000000")).expect("moved");
    log(place.path(), "0.log", &[B]);
    assert_eq!(output.recv().await.expect("a chunk").expect("readable"), "two\n");
    running.store(false, Ordering::Relaxed);
    assert!(output.recv().await.is_none());
}

#[test]
fn last_words_keep_both_bounds() {
    let place = tempfile::tempdir().expect("a directory");
    let path = log(place.path(), "0.log", &[A, B, C1, C2]);
    assert_eq!(last_words(&path, 2048, 80).expect("read"), "one\ntwo\nthree");
    assert_eq!(last_words(&path, 2048, 1).expect("read"), "three");
    assert_eq!(last_words(&path, 8, 80).expect("read"), "o\nthree");
}
