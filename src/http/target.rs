//! What a request was sent to. A router that nests others takes their prefix from the path, so what
//! is within sees `/items` of both `/a/items` and `/b/items`; the whole URI is in the extensions.

use http::{Extensions, Uri};
use std::ops::Deref;

/// Reads axum's `OriginalUri`, which it puts in every request.
#[cfg(feature = "axum")]
#[inline]
pub(super) fn original(extensions: &Extensions) -> Option<&Uri> {
    extension::<axum::extract::OriginalUri>(extensions)
}

/// Returns nothing: no router's extension is known.
#[cfg(not(feature = "axum"))]
#[inline]
pub(super) fn original(_: &Extensions) -> Option<&Uri> {
    None
}

/// Reads an extension of another type.
#[inline]
pub(super) fn extension<P>(extensions: &Extensions) -> Option<&Uri>
where
    P: Deref<Target = Uri> + Send + Sync + 'static,
{
    extensions.get::<P>().map(Deref::deref)
}

/// The URI of a request, as it is now and as it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) seen: &'a Uri,
    /// `None` if neither its path nor its query were changed.
    pub(super) original: Option<&'a Uri>,
}

impl<'a> Target<'a> {
    /// Makes a target. The original counts only if no more than path and query have changed since.
    /// Extensions are handed on: with a request to another host there may be the URI of the one
    /// that it serves.
    #[inline]
    pub(super) fn new(seen: &'a Uri, original: Option<&'a Uri>) -> Self {
        let changed = |original: &&Uri| {
            original.path_and_query() != seen.path_and_query()
                && original.authority() == seen.authority()
                && original.scheme() == seen.scheme()
        };
        let original = original.filter(changed);
        Self { seen, original }
    }

    /// Returns the URI with the prefix that was taken from its path; as it is now, if nothing was,
    /// or if it was rewritten in another way.
    #[inline]
    pub(super) fn whole(&self) -> &'a Uri {
        match self.original {
            Some(original) if is_rest(self.seen, original) => original,
            _ => self.seen,
        }
    }
}

fn is_rest(rest: &Uri, whole: &Uri) -> bool {
    let ends = rest.path() == "/" || whole.path().ends_with(rest.path());
    ends && rest.query() == whole.query()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(seen: &str, original: &str) -> (String, bool) {
        let (seen, original): (Uri, Uri) = (seen.parse().unwrap(), original.parse().unwrap());
        let target = Target::new(&seen, Some(&original));
        (target.whole().to_string(), target.original.is_some())
    }

    #[test]
    fn a_prefix_that_was_taken_is_put_back() {
        for (seen, original) in [
            ("/items", "/a/items"),
            ("/items?page=2", "/a/items?page=2"),
            ("/", "/a"),
            ("/", "/a/"),
            ("/?page=2", "/a?page=2"),
            ("http://shop/items", "http://shop/a/items"),
        ] {
            assert_eq!(whole(seen, original), (original.into(), true));
        }
    }

    #[test]
    fn what_was_rewritten_or_is_another_requests_stays() {
        assert_eq!(whole("/a/items", "/a/items"), ("/a/items".into(), false));
        for (seen, original) in [
            ("/tenants/1/items", "/items"),
            ("/items?page=1", "/a/items"),
            ("/items", "/old-items"),
        ] {
            assert_eq!(whole(seen, original), (seen.into(), true));
        }
        for (seen, original) in [
            ("http://stock/items", "/shop/items"),
            ("http://stock/items", "http://shop/shop/items"),
            ("http://shop/items", "https://shop/a/items"),
        ] {
            assert_eq!(whole(seen, original), (seen.into(), false));
        }
    }
}
