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
    /// If the answer cannot be written. Then it is not stored.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Returns the answer that these bytes stand for. They may be anything, since another version
    /// of the application may have written them.
    ///
    /// # Errors
    /// If they do not stand for an answer. Then the entry counts as not stored.
    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError>;
}

/// The codec that writes answers as JSON, with serde. The bytes are readable, and fields that
/// another version added do no harm.
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

/// The codec that writes answers in the [postcard](https://docs.rs/postcard) format, with serde. It
/// takes the fewest bytes, but when the type changes, the store needs another namespace.
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
