//! A response as it is kept.

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, Response, StatusCode, header, response::Parts};
use std::{fmt, sync::Arc};

/// A whole response as a cache stores it, body included. Clones are cheap, and share it.
#[derive(Clone)]
pub struct StoredResponse(Arc<Whole>);

struct Whole {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// They stay in the process.
    extensions: Extensions,
}

/// Fields that are between two neighbours, and not part of the response (RFC 9110, 7.6.1; RFC 9111,
/// 3.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Returns the fields that `Connection` names.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let fields = headers.get_all(header::CONNECTION).iter();
    fields
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

impl StoredResponse {
    pub(super) fn new(parts: Parts, body: Bytes) -> Self {
        let Parts {
            status,
            mut headers,
            extensions,
            ..
        } = parts;
        for name in named(&headers).into_iter().chain(HOP_BY_HOP) {
            headers.remove(name);
        }
        Self(Arc::new(Whole {
            status,
            headers,
            body,
            extensions,
        }))
    }

    /// Returns the response's status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the response's fields, as the service sent them.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Returns the response's body.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// Returns approximately how many bytes of memory the response takes. For
    /// [`MemoryStore::weighed`](crate::cache::MemoryStore::weighed).
    pub fn weight(&self) -> usize {
        let fields = self.0.headers.iter();
        let fields: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len() + 64)
            .sum();
        self.0.body.len() + fields + size_of::<Whole>()
    }

    pub(super) fn response<B: From<Bytes>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(self.0.body.clone()));
        *response.status_mut() = self.0.status;
        response.headers_mut().clone_from(&self.0.headers);
        response.extensions_mut().clone_from(&self.0.extensions);
        response
    }
}

impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.0.status)
            .field("bytes", &self.0.body.len())
            .finish_non_exhaustive()
    }
}

/// How it is written into a shared store.
#[cfg(feature = "redis")]
mod wire {
    use super::*;
    use http::HeaderValue;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Deserialize, Serialize)]
    struct EncodedResponse<'a> {
        status: u16,
        #[serde(borrow)]
        headers: Vec<(std::borrow::Cow<'a, str>, Vec<u8>)>,
        body: Vec<u8>,
    }

    impl Serialize for StoredResponse {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let field = |(name, value): (&'_ HeaderName, &HeaderValue)| {
                (name.as_str().to_owned().into(), value.as_bytes().to_vec())
            };
            let wire = EncodedResponse {
                status: self.0.status.as_u16(),
                headers: self.0.headers.iter().map(field).collect(),
                body: self.0.body.to_vec(),
            };
            wire.serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for StoredResponse {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let wire = EncodedResponse::deserialize(deserializer)?;
            let headers = HeaderMap::try_with_capacity(wire.headers.len());
            let mut headers = headers.map_err(D::Error::custom)?;
            for (name, value) in wire.headers {
                let name = name.parse::<HeaderName>().map_err(D::Error::custom)?;
                let value = HeaderValue::from_bytes(&value).map_err(D::Error::custom)?;
                headers.try_append(name, value).map_err(D::Error::custom)?;
            }
            Ok(Self(Arc::new(Whole {
                status: StatusCode::from_u16(wire.status).map_err(D::Error::custom)?,
                headers,
                body: wire.body.into(),
                extensions: Extensions::new(),
            })))
        }
    }
}
