//! `[repository] page`: whether people get a page, and what it is called.
//!
//! Owns how that is written: `page = false`, or `page = { title = "…" }`.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};

/// The page that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whether there is one.
    pub wanted: bool,
    /// What it is called, in place of the repository's host.
    pub title: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { wanted: true, title: None }
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
        Ok(Page { wanted, title: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Page, A::Error> {
        let Table { title } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Page { wanted: true, title })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn read(page: &str) -> Result<super::Page, String> {
        let text = format!("[repository]\n{page}\n");
        let document = crate::config::parse(Path::new("publish.toml"), &text);
        document.map(|document| document.repository.page).map_err(|error| error.to_string())
    }

    #[test]
    fn there_is_one_unless_somebody_says_no() {
        assert!(read("").unwrap().wanted);
        assert!(read("page = true").unwrap().wanted);
        assert!(!read("page = false").unwrap().wanted);
        let titled = read("page = { title = \"Ours\" }").unwrap();
        assert_eq!((titled.wanted, titled.title.as_deref()), (true, Some("Ours")));
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
