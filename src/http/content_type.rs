//! Which of gRPC's protocols a message is in: the one reader of their content types.

use http::{HeaderMap, header};

/// A protocol of gRPC's, by the content type of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum GrpcType {
    /// `application/grpc`: the status is in the trailers.
    Grpc,
    /// `application/grpc-web`: the status is in the last frame of the body.
    Web,
    /// `application/grpc-web-text`: the same, in base64.
    WebText,
}

impl GrpcType {
    /// Returns the protocol that a message with these headers is in, if it is one of gRPC's.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::read(headers.get(header::CONTENT_TYPE)?.as_bytes())
    }

    /// Returns the first of gRPC's protocols that the client accepts by name.
    #[cfg(feature = "grpc")]
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT).iter();
        let mut types = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        types.find_map(|media_type| Self::read(media_type.trim_ascii()))
    }

    /// Reads a media type, with whatever message format and parameters: these follow `+` and `;`.
    fn read(value: &[u8]) -> Option<Self> {
        const PREFIX: &[u8] = b"application/grpc";
        let (prefix, rest) = value.split_at_checked(PREFIX.len())?;
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return None;
        }
        let end = rest.iter().position(|byte| b"+; \t".contains(byte));
        let (suffix, _) = rest.split_at(end.unwrap_or(rest.len()));
        let suffixes = [
            (&b""[..], Self::Grpc),
            (b"-web", Self::Web),
            (b"-web-text", Self::WebText),
            (b"-web-text-base64", Self::WebText),
        ];
        let known = |(name, _): &(&[u8], Self)| suffix.eq_ignore_ascii_case(name);
        suffixes.into_iter().find(known).map(|(_, of)| of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_of_grpcs_is_told_from_all_others() {
        let (grpc, web, text) = (GrpcType::Grpc, GrpcType::Web, GrpcType::WebText);
        for (value, expected) in [
            ("application/grpc", Some(grpc)),
            ("application/grpc+proto", Some(grpc)),
            ("Application/gRPC; charset=utf-8", Some(grpc)),
            ("application/grpc-web", Some(web)),
            ("application/grpc-web+proto", Some(web)),
            ("application/grpc-web-text", Some(text)),
            ("application/grpc-web-text+proto", Some(text)),
            ("application/grpc-web-text-base64", Some(text)),
            ("application/grpc-websocket", None),
            ("application/grpcish", None),
            ("application/grp", None),
            ("application/json", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            assert_eq!(GrpcType::of(&headers), None);
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(GrpcType::of(&headers), expected, "{value}");
        }
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn what_is_accepted_may_stand_anywhere_in_a_list() {
        let accepted = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            GrpcType::accepted(&headers)
        };
        assert_eq!(accepted(&[]), None);
        assert_eq!(accepted(&["text/html, */*"]), None);
        assert_eq!(
            accepted(&["*/*", "text/html , application/grpc-web-text;q=1"]),
            Some(GrpcType::WebText)
        );
    }
}
