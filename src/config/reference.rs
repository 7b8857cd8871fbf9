//! The page of every key, made from the schema: so that what people read is what is read.
//!
//! Owns how the page is written. Knows nothing of the types behind it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::schema;

const TOP: &str = "\
# Every key

What may be written in the two kinds of files, with types and defaults. This page is made by
`publish schema --markdown`; the same as JSON Schema, by which editors complete and check, is printed by
`publish schema repository` and `publish schema component`, and lies in [schema/](schema/). An editor that knows
TOML takes it from the first line of a file, as `publish init` writes it:

```toml
#:schema schema/repository.json
```

What goes with what, and why, is told by the other pages. A word that is not here is refused, and so is a value of
another type.
";

/// The whole page, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut text = TOP.to_owned();
    for (title, schema) in [
        ("`publish.toml`", schema::repository()),
        ("A component: `components/NAME.toml`", schema::component()),
    ] {
        let _ = write!(text, "\n## {title}\n");
        let whole = Below { heading: String::new(), path: String::new(), schema: &schema };
        Page::new(&schema).tell(&whole, &mut text);
    }
    text
}

struct Page<'a> {
    root: &'a Value,
    /// The tables that have a heading, by what they are.
    headings: BTreeMap<String, String>,
}

/// A table below another.
struct Below<'a> {
    heading: String,
    path: String,
    schema: &'a Value,
}

impl<'a> Page<'a> {
    fn new(root: &'a Value) -> Self {
        let mut page = Self { root, headings: BTreeMap::new() };
        // Level by level: a table that is in several places is told where the way to it is shortest.
        let mut level = vec![Below { heading: String::new(), path: String::new(), schema: root }];
        while !level.is_empty() {
            let all = level.iter().flat_map(|table| page.tables_in(table)).collect::<Vec<_>>();
            level = all
                .into_iter()
                .filter(|table| {
                    let known = table.schema.to_string();
                    let is_new = !page.headings.contains_key(&known);
                    if is_new {
                        page.headings.insert(known, table.heading.clone());
                    }
                    is_new
                })
                .collect();
        }
        page
    }

    /// A table's keys, and then the tables in it.
    fn tell(&self, table: &Below<'a>, text: &mut String) {
        let required = table.schema.get("required").and_then(Value::as_array);
        let is_required = |key: &str| required.is_some_and(|all| all.iter().any(|one| one == key));
        text.push_str("\n| key | type | default | |\n|---|---|---|---|\n");
        for (key, value) in keys(table.schema) {
            let default = match value.get("default") {
                Some(default) => format!("`{}`", as_toml(default)),
                None if is_required(key) => "must be there".to_owned(),
                None => String::new(),
            };
            let (kind, about) = (self.kind(value), self.about(value));
            let _ = writeln!(text, "| `{key}` | {kind} | {default} | {about} |");
        }
        for table in self.tables_in(table) {
            if self.headings.get(&table.schema.to_string()) != Some(&table.heading) {
                continue;
            }
            let about = table.schema.get("description").and_then(Value::as_str).unwrap_or_default();
            // What it is called is the heading.
            let about = about.split_once("]`: ").map_or(about, |(_, rest)| rest);
            let _ = write!(text, "\n### `{}`\n\n{}\n", table.heading, sentence(about));
            self.tell(&table, text);
        }
    }

    /// The tables that a table holds.
    fn tables_in(&self, table: &Below<'a>) -> Vec<Below<'a>> {
        let below = |(key, value): (&'a String, &'a Value)| {
            let dot = if table.path.is_empty() { "" } else { "." };
            self.below(&format!("{}{dot}{key}", table.path), value)
        };
        keys(table.schema).filter_map(below).collect()
    }

    /// The table that a value is, or is made of.
    fn below(&self, path: &str, value: &'a Value) -> Option<Below<'a>> {
        let schema = self.resolved(value);
        if schema.get("properties").is_some() {
            return Some(Below { heading: format!("[{path}]"), path: path.to_owned(), schema });
        }
        if let Some(items) = schema.get("items") {
            let schema = self.resolved(items);
            schema.get("properties")?;
            return Some(Below { heading: format!("[[{path}]]"), path: path.to_owned(), schema });
        }
        if let Some(entry) = entries(schema) {
            return self.below(&format!("{path}.\"…\""), entry);
        }
        let forms = schema.get("anyOf")?.as_array()?;
        forms.iter().find_map(|form| self.below(path, form))
    }

    /// A type in words.
    fn kind(&self, value: &'a Value) -> String {
        let schema = self.resolved(value);
        if let Some(heading) = self.headings.get(&schema.to_string()) {
            return format!("[table](#{})", anchor(heading));
        }
        let words = self.words(schema);
        if !words.is_empty() {
            return words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
        }
        if let Some(forms) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
            let forms = forms.as_array().into_iter().flatten();
            return forms.map(|form| self.kind(form)).collect::<Vec<_>>().join(" or ");
        }
        let examples = value.get("examples").or_else(|| schema.get("examples"));
        let such_as = examples.and_then(|examples| examples.get(0));
        let such_as = such_as.map_or(String::new(), |e| format!(" such as `{}`", as_toml(e)));
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => format!("text{such_as}"),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("integer") => match (schema.get("minimum"), schema.get("maximum")) {
                (Some(least), Some(most)) => format!("{least} to {most}"),
                _ => "number".to_owned(),
            },
            Some("array") => match schema.get("items") {
                Some(items) => format!("list of {}", self.kind(items)),
                None => "list".to_owned(),
            },
            _ => match (schema.get("properties").and_then(Value::as_object), entries(schema)) {
                (Some(keys), _) => {
                    let keys =
                        keys.iter().map(|(key, value)| format!("`{key}` = {}", self.kind(value)));
                    format!("{{ {} }}", keys.collect::<Vec<_>>().join(", "))
                }
                (None, Some(entry)) => format!("table of names, each {}", self.kind(entry)),
                (None, None) => "table".to_owned(),
            },
        }
    }

    /// The words that a value is one of.
    fn words(&self, schema: &'a Value) -> Vec<&'a str> {
        if let Some(word) = schema.get("const").and_then(Value::as_str) {
            return vec![word];
        }
        if let Some(all) = schema.get("enum").and_then(Value::as_array) {
            return all.iter().filter_map(Value::as_str).collect();
        }
        if let Some(forms) = schema.get("oneOf").and_then(Value::as_array) {
            return forms.iter().flat_map(|form| self.words(self.resolved(form))).collect();
        }
        // `^(a|b|c)$`
        let pattern = schema.get("pattern").and_then(Value::as_str).unwrap_or_default();
        let inside = pattern.strip_prefix("^(").and_then(|rest| rest.strip_suffix(")$"));
        let words: Vec<&str> = inside.unwrap_or_default().split('|').collect();
        let plain = |word: &&str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        if words.iter().all(plain) { words } else { Vec::new() }
    }

    /// The sentence about a key: its own, or that of its type.
    fn about(&self, value: &'a Value) -> String {
        let own = value.get("description");
        let about = own.or_else(|| self.resolved(value).get("description"));
        sentence(about.and_then(Value::as_str).unwrap_or_default()).replace('|', "\\|")
    }

    /// What a reference leads to.
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        let only = schema.get("allOf").and_then(|all| all.get(0)).unwrap_or(schema);
        let name = only.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|name| name.strip_prefix("#/definitions/"));
        let there = name.and_then(|name| self.root.get("definitions")?.get(name));
        there.map_or(only, |there| self.resolved(there))
    }
}

/// The keys of a table, and what each may be.
fn keys(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// What each entry of a table with names of the user's own is.
fn entries(schema: &Value) -> Option<&Value> {
    let named = schema.get("patternProperties").and_then(Value::as_object);
    let named = named.and_then(|all| all.values().next());
    named.or_else(|| schema.get("additionalProperties").filter(|entry| entry.is_object()))
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    let Some(first) = text.chars().next() else { return String::new() };
    let end = if text.ends_with(['.', '?']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), &text[first.len_utf8()..])
}

/// As a value of TOML is written in one line.
fn as_toml(value: &Value) -> String {
    match value {
        Value::Array(list) => {
            format!("[{}]", list.iter().map(as_toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(table) => inline(table),
        other => other.to_string(),
    }
}

fn inline(table: &Map<String, Value>) -> String {
    let pairs = table.iter().map(|(key, value)| format!("{key} = {}", as_toml(value)));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

/// What a heading is linked by.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_".contains(*c))
        .collect::<String>()
        .to_lowercase()
}
