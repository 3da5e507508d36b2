//! What Kubernetes checks of core kinds beyond their schema, in its words: clients and people know
//! these messages. Source: `pkg/apis/core/validation/validation.go` of Kubernetes.

use std::net::IpAddr;

use fermion_api::Invalid;
use serde_json::Value;

/// The most bytes of all values of a ConfigMap or a Secret.
const DATA_BYTES_MAX: usize = 1024 * 1024;
/// The longest key of one.
const KEY_LENGTH_MAX: usize = 253;

/// Keys that a Secret of a type must have.
const SECRET_KEYS: [(&str, &[&str]); 2] =
    [("kubernetes.io/tls", &["tls.crt", "tls.key"]), ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"])];

pub(super) fn config_map(object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    let mut problems = immutable_data(object, old);
    for field in ["data", "binaryData"] {
        problems.extend(entries(&object[field]).filter_map(|(key, _)| wrong_key(field, key)));
    }
    for (key, _) in entries(&object["binaryData"]) {
        if !object["data"][key].is_null() {
            problems
                .push(Invalid::new(format!("data[{key}]"), format!("Invalid value: \"{key}\": duplicate of key present in binaryData")));
        }
    }
    let binary: usize = entries(&object["binaryData"]).map(|(_, value)| decoded_length(value)).sum();
    let texts: usize = entries(&object["data"]).map(|(_, value)| value.as_str().map_or(0, str::len)).sum();
    problems.extend(too_large("", binary + texts));
    problems
}

pub(super) fn secret(object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    let mut problems = immutable_data(object, old);
    problems.extend(entries(&object["data"]).filter_map(|(key, _)| wrong_key("data", key)));
    problems.extend(too_large("data", entries(&object["data"]).map(|(_, value)| decoded_length(value)).sum()));
    let of_type = object["type"].as_str().unwrap_or_default();
    for key in SECRET_KEYS.iter().filter(|(name, _)| *name == of_type).flat_map(|(_, keys)| keys.iter()) {
        if object["data"][*key].is_null() {
            problems.push(Invalid::new(format!("data[{key}]"), "Required value"));
        }
    }
    if let Some(old) = old
        && old["type"] != object["type"]
    {
        problems.push(Invalid::new("type", format!("Invalid value: \"{of_type}\": field is immutable")));
    }
    problems
}

pub(super) fn service(object: &Value, _: Option<&Value>) -> Vec<Invalid> {
    let spec = &object["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut problems = Vec::new();
    if ports.is_empty() && spec["clusterIP"] != "None" && spec["type"] != "ExternalName" {
        problems.push(Invalid::new("spec.ports", "Required value"));
    }
    for (index, port) in ports.iter().enumerate() {
        for field in ["port", "targetPort"] {
            if let Some(number) = port[field].as_i64()
                && !(1..=65535).contains(&number)
            {
                let message = format!("Invalid value: {number}: must be between 1 and 65535, inclusive");
                problems.push(Invalid::new(format!("spec.ports[{index}].{field}"), message));
            }
        }
        let name = port["name"].as_str().unwrap_or_default();
        if ports.len() > 1 && name.is_empty() {
            problems.push(Invalid::new(format!("spec.ports[{index}].name"), "Required value"));
        }
        if !name.is_empty() && ports[..index].iter().any(|other| other["name"] == name) {
            problems.push(Invalid::new(format!("spec.ports[{index}].name"), format!("Duplicate value: \"{name}\"")));
        }
    }
    problems
}

pub(super) fn endpoints(object: &Value, _: Option<&Value>) -> Vec<Invalid> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut problems = Vec::new();
    for (index, subset) in list(&object["subsets"]).iter().enumerate() {
        let place = format!("subsets[{index}]");
        if list(&subset["addresses"]).is_empty() && list(&subset["notReadyAddresses"]).is_empty() {
            problems.push(Invalid::new(&place, "Required value: must specify `addresses` or `notReadyAddresses`"));
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (at, address) in list(&subset[field]).iter().enumerate() {
                let ip = address["ip"].as_str().unwrap_or_default();
                let wrong = wrong_endpoint(ip).map(|rule| format!("Invalid value: \"{}\": {rule}", ip.escape_default()));
                problems.extend(wrong.map(|message| Invalid::new(format!("{place}.{field}[{at}].ip"), message)));
            }
        }
        let ports = list(&subset["ports"]);
        for (at, port) in ports.iter().enumerate() {
            let place = format!("{place}.ports[{at}]");
            if ports.len() > 1 && port["name"].as_str().unwrap_or_default().is_empty() {
                problems.push(Invalid::new(format!("{place}.name"), "Required value"));
            }
            if let Some(number) = port["port"].as_i64()
                && !(1..=65535).contains(&number)
            {
                let message = format!("Invalid value: {number}: must be between 1 and 65535, inclusive");
                problems.push(Invalid::new(format!("{place}.port"), message));
            }
            let protocol = port["protocol"].as_str().unwrap_or_default();
            if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
                let message = format!("Unsupported value: \"{}\": supported values: \"SCTP\", \"TCP\", \"UDP\"", protocol.escape_default());
                problems.push(Invalid::new(format!("{place}.protocol"), message));
            }
        }
    }
    problems
}

/// Why an address cannot be that of a pod. Those of the machine itself would lead a client to the
/// services of its own machine.
fn wrong_endpoint(ip: &str) -> Option<&'static str> {
    match ip.parse::<IpAddr>() {
        Err(_) => Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        Ok(ip) if ip.is_unspecified() => Some("may not be unspecified (0.0.0.0 or ::)"),
        Ok(ip) if ip.is_loopback() => Some("may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        Ok(IpAddr::V4(ip)) if ip.is_link_local() => Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        Ok(IpAddr::V4(ip)) if ip.octets()[..3] == [224, 0, 0] => {
            Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
        }
        Ok(IpAddr::V6(ip)) if ip.segments()[0] & 0xff0f == 0xff02 => {
            Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
        }
        Ok(_) => None,
    }
}

pub(super) fn claim(object: &Value, _: Option<&Value>) -> Vec<Invalid> {
    if object["spec"]["resources"]["requests"]["storage"].is_null() {
        return vec![Invalid::new("spec.resources[storage]", "Required value")];
    }
    Vec::new()
}

pub(super) fn event(object: &Value, _: Option<&Value>) -> Vec<Invalid> {
    let of_object = object["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let of_event = object["metadata"]["namespace"].as_str().unwrap_or_default();
    // What is in no namespace is reported in the default one.
    let fine = if of_object.is_empty() { matches!(of_event, "default" | "kube-system") } else { of_object == of_event };
    if fine || (of_object.is_empty() && of_event == fermion_api::labels::SYSTEM_NAMESPACE) {
        return Vec::new();
    }
    let message = format!("Invalid value: \"{}\": does not match event.namespace", of_object.escape_default());
    vec![Invalid::new("involvedObject.namespace", message)]
}

pub(super) fn lease(object: &Value, _: Option<&Value>) -> Vec<Invalid> {
    let mut problems = Vec::new();
    for (field, least, rule) in
        [("leaseDurationSeconds", 1, "must be greater than 0"), ("leaseTransitions", 0, "must be greater than or equal to 0")]
    {
        if let Some(number) = object["spec"][field].as_i64()
            && number < least
        {
            problems.push(Invalid::new(format!("spec.{field}"), format!("Invalid value: {number}: {rule}")));
        }
    }
    problems
}

/// A ConfigMap or Secret marked immutable keeps its data and the mark.
fn immutable_data(object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    let mut problems = Vec::new();
    if let Some(old) = old
        && old["immutable"] == true
    {
        for field in ["immutable", "data", "binaryData"] {
            if old[field] != object[field] {
                problems.push(Invalid::new(field, "Forbidden: field is immutable when `immutable` is set"));
            }
        }
    }
    problems
}

fn entries(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flatten()
}

fn wrong_key(field: &str, key: &str) -> Option<Invalid> {
    let shown = key.escape_default();
    let place = format!("{field}[{shown}]");
    if key.len() > KEY_LENGTH_MAX {
        return Some(Invalid::new(place, format!("Invalid value: \"{shown}\": must be no more than {KEY_LENGTH_MAX} characters")));
    }
    let fine = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if !fine {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or \
                    'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        return Some(Invalid::new(place, format!("Invalid value: \"{shown}\": {rule}")));
    }
    // As names of files they would mean a folder, or hide one of Kubernetes' own.
    (key == "." || key.starts_with("..")).then(|| {
        let rule = if key == "." || key == ".." { format!("must not be '{key}'") } else { "must not start with '..'".to_owned() };
        Invalid::new(place, format!("Invalid value: \"{shown}\": {rule}"))
    })
}

/// Bytes that a value in base64 stands for.
fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn too_large(field: &str, bytes: usize) -> Option<Invalid> {
    (bytes > DATA_BYTES_MAX).then(|| Invalid::new(field, format!("Too long: must have at most {DATA_BYTES_MAX} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(problems: Vec<Invalid>) -> Vec<String> {
        problems.into_iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
    }

    #[test]
    fn keys_are_names_of_files() {
        for key in ["a", "A.b_c-d", ".hidden"] {
            assert_eq!(config_map(&json!({"data": {key: ""}}), None), [], "{key}");
        }
        for key in ["", "a b", "a/b", ".", "..", "..data", &"a".repeat(254)] {
            assert_eq!(config_map(&json!({"data": {key: ""}}), None).len(), 1, "{key}");
            assert_eq!(secret(&json!({"data": {key: ""}}), None).len(), 1, "{key}");
        }
    }

    #[test]
    fn data_has_a_bound_and_no_key_twice() {
        assert_eq!(config_map(&json!({"data": {"a": "x".repeat(DATA_BYTES_MAX)}}), None), []);
        let large = json!({"data": {"a": "x".repeat(DATA_BYTES_MAX)}, "binaryData": {"b": "AAEC"}});
        assert_eq!(fields(config_map(&large, None)), [": Too long: must have at most 1048576 bytes"]);
        let twice = json!({"data": {"a": "1"}, "binaryData": {"a": "AAEC"}});
        assert_eq!(fields(config_map(&twice, None)), ["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"]);
    }

    #[test]
    fn secrets_hold_what_their_type_asks_for_and_keep_it() {
        let tls = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "AA=="}});
        assert_eq!(fields(secret(&tls, None)), ["data[tls.key]: Required value"]);
        let opaque = json!({"type": "Opaque", "data": {}});
        assert_eq!(secret(&opaque, None), []);
        assert_eq!(fields(secret(&opaque, Some(&json!({"type": "other"})))), ["type: Invalid value: \"Opaque\": field is immutable"]);
    }

    #[test]
    fn ports_of_services_are_checked() {
        let ports = |ports: Value| fields(service(&json!({"spec": {"ports": ports}}), None));
        assert_eq!(ports(json!([])), ["spec.ports: Required value"]);
        assert_eq!(ports(json!([{"port": 80}])), Vec::<String>::new());
        assert_eq!(ports(json!([{"port": 0}])), ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"]);
        assert_eq!(ports(json!([{"port": 1, "name": "a"}, {"port": 2, "name": "a"}])), ["spec.ports[1].name: Duplicate value: \"a\""]);
        assert_eq!(ports(json!([{"port": 1, "name": "a"}, {"port": 2}])), ["spec.ports[1].name: Required value"]);
        assert_eq!(service(&json!({"spec": {"clusterIP": "None"}}), None), []);
    }

    #[test]
    fn events_stand_beside_what_they_are_about() {
        let about = |namespace: &str| json!({"metadata": {"namespace": "lab"}, "involvedObject": {"namespace": namespace}});
        assert_eq!(event(&about("lab"), None), []);
        assert_eq!(event(&about("other"), None).len(), 1);
        let node = json!({"metadata": {"namespace": "default"}, "involvedObject": {"kind": "Node"}});
        assert_eq!(event(&node, None), []);
    }

    #[test]
    fn leases_last_for_a_while() {
        assert_eq!(lease(&json!({"spec": {"leaseDurationSeconds": 15, "leaseTransitions": 0}}), None), []);
        assert_eq!(lease(&json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}), None).len(), 2);
    }
}
