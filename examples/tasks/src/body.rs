//! Bodies of requests: what is wrong with them is said by field.

use crate::problem::{Problem, Wrong};
use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use garde::Validate;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A body that was understood (else 400) and is valid (else 422).
pub(crate) struct Valid<T>(pub(crate) T);

impl<S: Send + Sync, T> FromRequest<S> for Valid<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    type Rejection = Problem;

    /// Whatever its content type says: there is one kind of body only, and `curl -d` says another.
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|refused| Problem::new(refused.status(), refused.body_text()))?;
        let body: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
            let detail = format!("the body is not a JSON object: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?;
        let body: T = understood(body)?;
        match body.validate() {
            Ok(()) => Ok(Self(body)),
            Err(report) => {
                let wrong = |(path, error): &_| Wrong::new(format!("{path}"), error);
                let wrong = report.iter().map(wrong).collect();
                Err(Problem::fields(StatusCode::UNPROCESSABLE_ENTITY, wrong))
            }
        }
    }
}

/// Serde's errors do not name the field. But no field is required by the type, so that each can be
/// tried alone.
fn understood<T: DeserializeOwned>(body: Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(body.clone())).map_err(|error| {
        let wrong = body.into_iter().filter_map(|(name, value)| {
            let alone = Value::Object(Map::from_iter([(name.clone(), value)]));
            let error = serde_json::from_value::<T>(alone).err()?;
            Some(Wrong::new(name, error))
        });
        let wrong: Vec<_> = wrong.collect();
        match wrong.is_empty() {
            true => Problem::new(StatusCode::BAD_REQUEST, error),
            false => Problem::fields(StatusCode::BAD_REQUEST, wrong),
        }
    })
}

/// For a field that may be left out but, if it is there, has to be a `T`: `null` is a value too.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Text that Postgres can hold.
pub(crate) fn storable(text: &impl Text, _: &()) -> garde::Result {
    match text.text() {
        Some(text) if text.contains('\0') => Err(garde::Error::new("must not contain U+0000")),
        _ => Ok(()),
    }
}

/// The same, which says something.
pub(crate) fn said(text: &impl Text, context: &()) -> garde::Result {
    match text.text() {
        Some(text) if text.trim().is_empty() => Err(garde::Error::new("must not be blank")),
        _ => storable(text, context),
    }
}

/// What may be a text.
pub(crate) trait Text {
    fn text(&self) -> Option<&str>;
}

impl Text for String {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl<T: Text> Text for Option<T> {
    fn text(&self) -> Option<&str> {
        self.as_ref().and_then(T::text)
    }
}
