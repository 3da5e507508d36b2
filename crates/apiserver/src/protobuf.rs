//! Request bodies in Kubernetes protobuf.

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
#[error("protobuf bodies are not read; send application/json")]
pub struct ProtobufError;

/// Reads a body.
///
/// # Errors
/// Always.
pub fn decode(_body: &[u8]) -> Result<serde_json::Value, ProtobufError> {
    Err(ProtobufError)
}
