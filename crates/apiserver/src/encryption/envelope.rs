//! How one object is sealed: envelope encryption, as pure functions over JSON.
//!
//! Each write draws a fresh data key, encrypts the whole object with it, and encrypts the data key
//! with the platform's key. Both are AES-256-GCM with random nonces of 96 bits; the platform's key
//! may seal 2^32 times before a repeated nonce becomes likely (NIST SP 800-38D section 8.3), a data
//! key seals once. What is authenticated beside the text is the object's resource, namespace and
//! name, so that bodies cannot be exchanged between objects; the outer part also holds the key's id.
//!
//! In plain text stay the name, namespace, uid, labels and type, which the database selects by.
//! Annotations are sealed: `kubectl apply` keeps a copy of the whole object in one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fermion_store::Key;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::{Value, json};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// The field of a stored object that holds the rest of it.
pub(super) const SEALED_FIELD: &str = "sealed";
/// What begins everything authenticated; another number means another form.
const FORM: &str = "fermion-secret-v1";
/// Metadata that stays readable.
const READABLE: [&str; 4] = ["name", "namespace", "uid", "labels"];

/// Why an object could not be sealed or opened. Never holds a part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvelopeError {
    /// The system gave no random numbers, or the cipher refused.
    #[error("it cannot be encrypted")]
    Seal,
    /// The key that it was sealed with is not there.
    #[error("it is encrypted with key {key}, which is not there: put that key back")]
    UnknownKey {
        /// The key's id.
        key: String,
    },
    /// It was changed, or belongs to another object.
    #[error("its encrypted text was changed, or is that of another object: restore it from a backup")]
    Forged,
    /// It is not in the form in which objects are sealed.
    #[error("its encrypted text is damaged: restore it from a backup")]
    Damaged,
}

/// A key that seals data keys.
pub(super) struct SealingKey {
    pub(super) id: String,
    cipher: LessSafeKey,
}

impl SealingKey {
    pub(super) fn new(id: String, bytes: &[u8; KEY_BYTES]) -> Self {
        Self { id, cipher: cipher(bytes) }
    }
}

fn cipher(bytes: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("the length of the key is that of the cipher"))
}

/// What is authenticated beside a text: parts hold no zero byte, so no two lists of parts are one.
fn bound(parts: &[&str]) -> Vec<u8> {
    let mut bound = FORM.as_bytes().to_vec();
    for part in parts {
        bound.push(0);
        bound.extend_from_slice(part.as_bytes());
    }
    bound
}

/// Nonce, encrypted text and tag, in base64.
fn seal_text(cipher: &LessSafeKey, bound: &[u8], mut text: Vec<u8>) -> Result<String, EnvelopeError> {
    let mut nonce = [0_u8; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|_| EnvelopeError::Seal)?;
    cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text).map_err(|_| EnvelopeError::Seal)?;
    let mut sealed = nonce.to_vec();
    sealed.append(&mut text);
    Ok(STANDARD.encode(sealed))
}

fn open_text(cipher: &LessSafeKey, bound: &[u8], sealed: &Value) -> Result<Vec<u8>, EnvelopeError> {
    let sealed = sealed.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or(EnvelopeError::Damaged)?;
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(EnvelopeError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| EnvelopeError::Damaged)?;
    let mut text = text.to_vec();
    let length = cipher.open_in_place(nonce, Aad::from(bound), &mut text).map_err(|_| EnvelopeError::Forged)?.len();
    text.truncate(length);
    Ok(text)
}

/// What the store keeps instead of `object`.
pub(super) fn seal(with: &SealingKey, key: &Key, object: &Value) -> Result<Value, EnvelopeError> {
    let mut data_key = [0_u8; KEY_BYTES];
    getrandom::fill(&mut data_key).map_err(|_| EnvelopeError::Seal)?;
    let parts = [&*key.resource, &*key.namespace, &*key.name];
    let text = serde_json::to_vec(object).map_err(|_| EnvelopeError::Seal)?;
    let data = seal_text(&cipher(&data_key), &bound(&parts), text)?;
    let wrapped = seal_text(&with.cipher, &bound(&[parts[0], parts[1], parts[2], &with.id]), data_key.to_vec())?;
    let mut metadata = serde_json::Map::new();
    for field in READABLE {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    Ok(json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": metadata,
        "type": object["type"],
        SEALED_FIELD: {"key": with.id, "dataKey": wrapped, "data": data},
    }))
}

/// The object that was sealed as `stored`, at the revision the store gave it. What was never sealed
/// comes back as it is.
pub(super) fn open<'a>(keys: impl Fn(&str) -> Option<&'a SealingKey>, key: &Key, body: &Bytes) -> Result<Bytes, EnvelopeError> {
    let stored: Value = serde_json::from_slice(body).map_err(|_| EnvelopeError::Damaged)?;
    let Some(sealed) = stored.get(SEALED_FIELD) else { return Ok(body.clone()) };
    let id = sealed["key"].as_str().ok_or(EnvelopeError::Damaged)?;
    let with = keys(id).ok_or_else(|| EnvelopeError::UnknownKey { key: id.escape_default().to_string() })?;
    let parts = [&*key.resource, &*key.namespace, &*key.name];
    let data_key = open_text(&with.cipher, &bound(&[parts[0], parts[1], parts[2], id]), &sealed["dataKey"])?;
    let data_key: [u8; KEY_BYTES] = data_key.try_into().map_err(|_| EnvelopeError::Damaged)?;
    let text = open_text(&cipher(&data_key), &bound(&parts), &sealed["data"])?;
    let mut object: Value = serde_json::from_slice(&text).map_err(|_| EnvelopeError::Damaged)?;
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).ok_or(EnvelopeError::Damaged)?;
    metadata.insert("resourceVersion".to_owned(), stored["metadata"]["resourceVersion"].clone());
    serde_json::to_vec(&object).map(Bytes::from).map_err(|_| EnvelopeError::Damaged)
}

/// The id of the key that a stored body is sealed with; none if it is in plain text.
pub(super) fn key_of(body: &Bytes) -> Result<Option<String>, EnvelopeError> {
    let stored: Value = serde_json::from_slice(body).map_err(|_| EnvelopeError::Damaged)?;
    match stored.get(SEALED_FIELD) {
        None => Ok(None),
        Some(sealed) => sealed["key"].as_str().map(|id| Some(id.to_owned())).ok_or(EnvelopeError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        Key::new("secrets", namespace, name)
    }

    fn sealing_key(byte: u8) -> SealingKey {
        SealingKey::new(format!("k{byte}"), &[byte; KEY_BYTES])
    }

    fn secret() -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "labels": {"tier": "web"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "canary-annotation"},
            },
            "type": "Opaque",
            "data": {"password": "canary-data"},
        })
    }

    fn stored(mut sealed: Value) -> Bytes {
        sealed["metadata"]["resourceVersion"] = "7".into();
        sealed.to_string().into()
    }

    #[test]
    fn what_was_sealed_opens_again_at_its_revision() {
        let with = sealing_key(1);
        let sealed = seal(&with, &key("n", "a"), &secret()).unwrap();
        assert!(!sealed.to_string().contains("canary"), "{sealed}");
        assert_eq!(sealed["metadata"]["labels"], json!({"tier": "web"}));
        assert_eq!(sealed["type"], "Opaque");
        let opened = open(|id| (id == "k1").then_some(&with), &key("n", "a"), &stored(sealed.clone())).unwrap();
        let mut expected = secret();
        expected["metadata"]["resourceVersion"] = "7".into();
        assert_eq!(serde_json::from_slice::<Value>(&opened).unwrap(), expected);
        let again = seal(&with, &key("n", "a"), &secret()).unwrap();
        assert_ne!(sealed["sealed"], again["sealed"], "the same text is never sealed to the same");
    }

    #[test]
    fn a_body_opens_under_its_own_name_only() {
        let with = sealing_key(1);
        let sealed = stored(seal(&with, &key("n", "a"), &secret()).unwrap());
        for other in [key("n", "b"), key("m", "a"), Key::new("configmaps", "n", "a"), key("n\0a", "")] {
            assert_eq!(open(|_| Some(&with), &other, &sealed), Err(EnvelopeError::Forged), "{other}");
        }
    }

    #[test]
    fn wrong_keys_and_changed_texts_open_nothing() {
        let (with, other) = (sealing_key(1), sealing_key(2));
        let sealed = seal(&with, &key("n", "a"), &secret()).unwrap();
        let try_open = |sealed: Value| open(|_| Some(&with), &key("n", "a"), &stored(sealed));
        assert_eq!(open(|_| Some(&other), &key("n", "a"), &stored(sealed.clone())), Err(EnvelopeError::Forged));
        let unknown = EnvelopeError::UnknownKey { key: "k1".to_owned() };
        assert_eq!(open(|_| None, &key("n", "a"), &stored(sealed.clone())), Err(unknown));
        let mut swapped = sealed.clone();
        swapped["sealed"]["data"] = seal(&with, &key("n", "a"), &json!({"metadata": {}})).unwrap()["sealed"]["data"].clone();
        assert_eq!(try_open(swapped), Err(EnvelopeError::Forged));
        for damaged in [json!("!"), json!("AAAA"), json!(1), Value::Null] {
            let mut broken = sealed.clone();
            broken["sealed"]["data"] = damaged.clone();
            assert!(try_open(broken).is_err(), "{damaged}");
            let mut broken = sealed.clone();
            broken["sealed"]["dataKey"] = damaged.clone();
            assert!(try_open(broken).is_err(), "{damaged}");
        }
    }

    #[test]
    fn what_was_never_sealed_is_left_alone() {
        let plain = Bytes::from(secret().to_string());
        assert_eq!(open(|_| None, &key("n", "a"), &plain), Ok(plain.clone()));
        assert_eq!(key_of(&plain), Ok(None));
    }
}
