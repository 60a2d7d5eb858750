//! Answers as bytes.

use std::error::Error;

type BoxError = Box<dyn Error + Send + Sync>;

/// A way to turn answers into bytes and back, for stores outside of the process.
#[doc(alias = "serialize")]
#[doc(alias = "serializer")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot write answers of type `{V}` as bytes",
    label = "what is kept outside of the process is written as bytes",
    note = "for a type of yours: `#[derive(serde::Serialize, serde::Deserialize)]`",
    note = "for another one look for its feature `serde`, or implement `Codec<{V}>` for a type of yours and say `.codec(..)` to the store's builder"
)]
pub trait Codec<V>: Send + Sync + 'static {
    /// Appends the answer's bytes.
    ///
    /// # Errors
    /// If it cannot be written; then it is not stored.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Returns the answer with these bytes, which may be anything: another version of the
    /// application may have written them.
    ///
    /// # Errors
    /// If they are not those of an answer; then it counts as not stored.
    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError>;
}

/// Answers as JSON, by serde: readable bytes that forgive fields that were added or left out.
#[cfg(feature = "redis")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "redis")]
#[diagnostic::do_not_recommend]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for Json {
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(out, value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Answers in the [postcard](https://docs.rs/postcard) format, by serde: the fewest bytes. A type
/// that changes needs another namespace.
#[cfg(feature = "redis")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Binary;

#[cfg(feature = "redis")]
#[diagnostic::do_not_recommend]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for Binary {
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(postcard::to_io(value, out).map(|_| ())?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        Ok(postcard::from_bytes(bytes)?)
    }
}
