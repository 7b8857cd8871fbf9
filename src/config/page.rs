//! `[repository] page`: whether people get a page, and what it is called.
//!
//! Owns how that is written: `page = false`, or `page = { title = "…" }`.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};

use super::StoreUrl;

/// The page that people see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Whether there is one; left out, the kind of store decides.
    pub wanted: Option<bool>,
    /// What it is called, in place of the repository's host.
    pub title: Option<String>,
}

impl Page {
    /// Whether there is one in this store. What lies in a release is downloaded, and nobody looks at it there.
    #[must_use]
    pub fn is_wanted(&self, store: &StoreUrl) -> bool {
        self.wanted.unwrap_or(!matches!(store, StoreUrl::Release(_)))
    }
}

/// `[repository.page]`: what is said of the page that people see.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Page")]
pub(super) struct Table {
    /// What it is called, in place of the repository's host.
    title: Option<String>,
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`false`, or a table such as { title = \"Extensions\" }")
    }

    fn visit_bool<E>(self, wanted: bool) -> Result<Page, E> {
        Ok(Page { wanted: Some(wanted), title: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Page, A::Error> {
        let Table { title } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Page { wanted: Some(true), title })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::StoreUrl;

    fn read(page: &str) -> Result<super::Page, String> {
        let text = format!("[repository]\n{page}\n");
        let document = crate::config::parse(Path::new("publish.toml"), &text);
        document.map(|document| document.repository.page).map_err(|error| error.to_string())
    }

    #[test]
    fn there_is_one_unless_somebody_says_no() {
        let wanted = |page: &str, store: &str| {
            let store = StoreUrl::try_from(store.to_owned()).unwrap();
            read(page).unwrap().is_wanted(&store)
        };
        for (page, in_a_folder, in_releases) in [
            ("", true, false),
            ("page = true", true, true),
            ("page = false", false, false),
            ("page = { title = \"Ours\" }", true, true),
        ] {
            assert_eq!(wanted(page, "public"), in_a_folder, "{page}");
            assert_eq!(wanted(page, "github-release://o/r/{component}"), in_releases, "{page}");
        }
        let titled = read("page = { title = \"Ours\" }").unwrap();
        assert_eq!(titled.title.as_deref(), Some("Ours"));
    }

    #[test]
    fn anything_else_gets_a_caret() {
        insta::assert_snapshot!(read("page = \"no\"").unwrap_err(), @r#"
        publish.toml:2:8: invalid type: string "no", expected `false`, or a table such as { title = "Extensions" }
            |
          2 | page = "no"
            |        ^^^^
        "#);
        let typo = read("page = { titel = \"Ours\" }").unwrap_err();
        assert!(typo.contains("unknown field `titel`, expected `title`"), "{typo}");
        assert!(typo.contains("^^^^^"), "{typo}");
    }
}
