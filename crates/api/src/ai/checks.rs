//! Checks that several workload kinds share.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::{NAME_LENGTH_MAX, PRIORITY_RANGE, REPLICAS_MAX};
use crate::{Invalid, duration};

pub(super) fn name(name: Option<&str>, problems: &mut Vec<Invalid>) {
    if name.is_some_and(|name| name.len() > NAME_LENGTH_MAX) {
        problems.push(Invalid::new(
            "metadata.name",
            format!("is longer than {NAME_LENGTH_MAX} characters, too long for the names of its pods"),
        ));
    }
}

pub(super) fn priority(priority: i32, problems: &mut Vec<Invalid>) {
    if !PRIORITY_RANGE.contains(&priority) {
        problems.push(Invalid::new("spec.priority", format!("must lie between {} and {}", PRIORITY_RANGE.start(), PRIORITY_RANGE.end())));
    }
}

pub(super) fn replicas(field: &str, replicas: i32, least: i32, problems: &mut Vec<Invalid>) {
    if !(least..=REPLICAS_MAX).contains(&replicas) {
        problems.push(Invalid::new(field, format!("must lie between {least} and {REPLICAS_MAX}")));
    }
}

pub(super) fn span(field: &str, text: Option<&str>, problems: &mut Vec<Invalid>) {
    if let Some(Err(message)) = text.map(duration::parse) {
        problems.push(Invalid::new(field, message));
    }
}

pub(super) fn label(field: &str, name: &str, problems: &mut Vec<Invalid>) {
    if !is_dns_label(name) {
        problems.push(Invalid::new(
            field,
            format!("`{name}` must be 1 to 20 lower-case letters, digits or `-`, starting and ending with a letter or digit"),
        ));
    }
}

/// Whether a role, app or port name can be part of a host name.
fn is_dns_label(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty()
        && name.len() <= 20
        && name.bytes().all(|byte| fine(byte) || byte == b'-')
        && name.bytes().next().is_some_and(fine)
        && name.bytes().next_back().is_some_and(fine)
}

pub(super) fn template(field: &str, template: &PodTemplateSpec, image_required: bool, problems: &mut Vec<Invalid>) {
    let Some(spec) = &template.spec else {
        problems.push(Invalid::new(format!("{field}.spec"), "is required"));
        return;
    };
    if spec.containers.is_empty() {
        problems.push(Invalid::new(format!("{field}.spec.containers"), "needs at least one container"));
    }
    for (index, container) in spec.containers.iter().enumerate() {
        if image_required && container.image.as_deref().unwrap_or_default().is_empty() {
            problems.push(Invalid::new(
                format!("{field}.spec.containers[{index}].image"),
                "is required, for example fermion.dev/python:latest",
            ));
        }
    }
    if spec.node_name.is_some() {
        problems.push(Invalid::new(format!("{field}.spec.nodeName"), "is chosen by the scheduler; use nodeSelector"));
    }
}
