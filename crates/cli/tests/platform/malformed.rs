//! A thousand requests no client should send: no panic, no 5xx, no effect.

use fermion_testkit::{Node, Platform};

use crate::FERMION;

/// How many requests are sent.
const REQUESTS: u64 = 1_000;
/// Where the sequence starts; printed, so that a failure can be repeated.
const SEED: u64 = 20_261_122;

/// A small generator (SplitMix64, Steele et al. 2014): the same seed gives the same requests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[(self.next() % choices.len() as u64) as usize]
    }
}

const NAMES: [&str; 14] = [
    "..",
    "%2e%2e",
    "a%2fb",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "%zz",
    "A_B",
    "-",
    "%f0%9f%92%a5",
    "a%0d%0aX-Injected:1",
    "%ff%fe",
    ".",
    "con%20fig",
    "x",
];
const RESOURCES: [&str; 12] = [
    "api/v1/namespaces/default/configmaps",
    "api/v1/namespaces/default/pods",
    "api/v1/namespaces/default/secrets",
    "api/v1/namespaces/default/persistentvolumeclaims",
    "api/v1/namespaces",
    "api/v1/nodes",
    "apis/ai.fermion.dev/v1alpha1/namespaces/default/trainingjobs",
    "apis/ai.fermion.dev/v1alpha1/namespaces/default/inferenceservices",
    "apis/ai.fermion.dev/v1alpha1/namespaces/default/devenvironments",
    "apis/assets.fermion.dev/v1alpha1/images",
    "apis/observe.fermion.dev/v1alpha1/namespaces/default/usagerecords",
    "apis/nothing.example.org/v9/things",
];
const SUBRESOURCES: [&str; 10] =
    ["", "/status", "/scale", "/log", "/exec", "/binding", "/portforward", "/file?path=../../etc/passwd", "/finalize", "/nothing/more"];
const OTHER_PATHS: [&str; 12] = [
    "apps/default/x/y/",
    "apps/%2e%2e/x/y/",
    "apps/default/x/y/../../../../api/v1/secrets",
    "services/default/x/",
    "services/default/../x",
    "openapi/v3/apis/../../etc",
    "auth/sign-in",
    "apis//",
    "api/",
    "apis/ai.fermion.dev",
    "//",
    "version",
];
const QUERIES: [&str; 12] = [
    "",
    "?limit=-1",
    "?limit=99999999999999999999",
    "?continue=AAAA",
    "?labelSelector=%28%28",
    "?fieldSelector=spec.secret%3Dx",
    "?watch=maybe",
    "?resourceVersion=abc",
    "?dryRun=Some",
    "?fieldValidation=Loud",
    "?timeoutSeconds=x",
    "?%zz=%ff",
];
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"];
const CONTENT_TYPES: [&str; 8] = [
    "application/json",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
    "application/json; charset=\u{e9}",
];

fn body(random: &mut Random) -> Vec<u8> {
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"../../x","volumeMounts":[{"name":"v","mountPath":"/../etc","subPath":"../../.."}]}],"volumes":[{"name":"v","hostPath":{"path":"/"}},{"name":"v","persistentVolumeClaim":{"claimName":"../../root"}}]}}"#;
    match random.next() % 16 {
        0 => Vec::new(),
        1 => b"{".to_vec(),
        2 => b"[[[[".to_vec(),
        3 => vec![b'['; 100_000],
        4 => format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500)).into_bytes(),
        5 => b"\"text\"".to_vec(),
        6 => b"null".to_vec(),
        7 => vec![0xff, 0xfe, 0x00, 0x80],
        8 => b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":5}}".to_vec(),
        9 => b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":\"x\",\"data\":[1]}".to_vec(),
        10 => b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"\\ud800\"},\"data\":{\"a\":\"\\u0000\"}}".to_vec(),
        11 => pod.as_bytes().to_vec(),
        12 => b"k8s\0\x0a\xff\xff\xff\xff\x0f".to_vec(),
        13 => vec![b' '; 4 * 1024 * 1024],
        14 => b"[{\"op\":\"add\",\"path\":\"/metadata/labels\",\"value\":5},{\"op\":\"move\",\"from\":\"\",\"path\":\"/x\"}]".to_vec(),
        _ => b"{\"apiVersion\":\"ai.fermion.dev/v1alpha1\",\"kind\":\"TrainingJob\",\"metadata\":{\"name\":\"../j\",\"labels\":{\"a\":{}}},\"spec\":{\"roles\":[null,{\"name\":\"..\",\"replicas\":-1}]}}".to_vec(),
    }
}

#[test]
fn malformed_requests_are_refused_without_effect() {
    let platform = Platform::start(FERMION, Node::None);
    let http = platform.http();
    println!("seed {SEED}");
    let mut random = Random(SEED);
    let state = || -> Vec<String> {
        let mut found = Vec::new();
        for resource in RESOURCES {
            let list = http.get(&format!("/{resource}")).json();
            for item in list["items"].as_array().into_iter().flatten() {
                // The controllers work meanwhile: what they report is no effect of ours.
                found.push(format!("{resource} {} {}", item["metadata"]["name"], item["spec"]));
            }
        }
        found
    };
    let before = state();
    for index in 0..REQUESTS {
        let path = if random.next().is_multiple_of(4) {
            format!("/{}", random.pick(&OTHER_PATHS))
        } else {
            let name = if random.next().is_multiple_of(3) { String::new() } else { format!("/{}", random.pick(&NAMES)) };
            format!("/{}{name}{}", random.pick(&RESOURCES), random.pick(&SUBRESOURCES))
        };
        let path = if path.contains('?') { path } else { format!("{path}{}", random.pick(&QUERIES)) };
        let (method, content_type) = (random.pick(&METHODS), random.pick(&CONTENT_TYPES));
        // A watch that is well-formed would stay open.
        let body = body(&mut random);
        let answer = http.request(method, &path, &[("Content-Type", content_type)], &body);
        let answer = answer.unwrap_or_else(|error| panic!("seed {SEED}, request {index}: {method} {path}: {error}"));
        assert!(
            answer.code < 500,
            "seed {SEED}, request {index}: {method} {path} ({content_type}) gave {}: {}",
            answer.code,
            answer.text()
        );
        assert!(!answer.headers.to_ascii_lowercase().contains("x-injected"), "request {index}: {method} {path} wrote a header");
    }
    for raw in [
        &b"GET / HTTP/9.9\r\n\r\n"[..],
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET http://example.org/api/v1/secrets HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ] {
        if let Ok(answer) = http.raw(raw) {
            assert!(answer.code < 500, "{}", answer.text());
        }
    }
    assert_eq!(state(), before, "seed {SEED}: a malformed request had an effect");
    let log = platform.log();
    assert!(!log.contains("panicked"), "a request caused a panic:\n{log}");
}
