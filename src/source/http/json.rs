//! Places in a JSON document, read without holding the document as values: one may be tens of
//! megabytes, of which a hundred versions are wanted.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::MOST;
use crate::config::source::{Pointer, Step};
use crate::source::date;

/// A text at a place, or a key of what is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What each star of the pointer stood for.
    pub(super) stars: Vec<String>,
    /// The text.
    pub(super) text: String,
}

/// The texts and whole numbers that a pointer leads to.
pub(super) fn values(document: &[u8], at: &Pointer) -> Result<Vec<Found>, String> {
    walk(document, at, Want::Value)
}

/// The keys of the objects that a pointer leads to.
pub(super) fn keys(document: &[u8], of: &Pointer) -> Result<Vec<Found>, String> {
    walk(document, of, Want::Keys)
}

/// Dates, by what the stars of their pointer stood for.
pub(super) struct Dates(BTreeMap<Vec<String>, Option<Timestamp>>, usize);

impl Dates {
    /// The date of what was found with these stars.
    pub(super) fn of(&self, stars: &[String]) -> Option<Timestamp> {
        *self.0.get(stars.get(..self.1)?)?
    }
}

/// The dates that a pointer leads to.
pub(super) fn dates(document: &[u8], at: Option<&Pointer>) -> Result<Dates, String> {
    let Some(at) = at else { return Ok(Dates(BTreeMap::new(), 0)) };
    let stars = at.steps().iter().filter(|step| **step == Step::Star).count();
    let found = values(document, at)?.into_iter();
    Ok(Dates(found.map(|found| (found.stars, date::read(&found.text))).collect(), stars))
}

fn walk(document: &[u8], at: &Pointer, want: Want) -> Result<Vec<Found>, String> {
    let mut walk = Walk { want, stars: Vec::new(), found: Vec::new() };
    let mut reader = serde_json::Deserializer::from_slice(document);
    Place { walk: &mut walk, steps: at.steps() }
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|error| error.to_string())?;
    Ok(walk.found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Value,
    Keys,
}

struct Walk {
    want: Want,
    stars: Vec<String>,
    found: Vec<Found>,
}

impl Walk {
    fn keep<E: serde::de::Error>(&mut self, text: String) -> Result<(), E> {
        if self.found.len() >= MOST {
            return Err(E::custom(format_args!("it lists more than {MOST} versions")));
        }
        self.found.push(Found { stars: self.stars.clone(), text });
        Ok(())
    }
}

/// A value of the document, and the steps from it to what is wanted.
struct Place<'w, 'p> {
    walk: &'w mut Walk,
    steps: &'p [Step],
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if self.steps.is_empty() && self.walk.want == Want::Value {
            self.walk.keep(text.to_owned())?;
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    // A version is no fraction: 1.10 would become 1.1.
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { walk, steps } = self;
        while let Some(key) = map.next_key::<String>()? {
            match steps {
                [] if walk.want == Want::Keys => walk.keep(key)?,
                [Step::Star, rest @ ..] => {
                    walk.stars.push(key);
                    map.next_value_seed(Place { walk, steps: rest })?;
                    walk.stars.pop();
                    continue;
                }
                [Step::Key(wanted), rest @ ..] if *wanted == key => {
                    map.next_value_seed(Place { walk, steps: rest })?;
                    continue;
                }
                _ => {}
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { walk, steps } = self;
        let (rest, only): (_, Option<usize>) = match steps {
            [Step::Star, rest @ ..] => (rest, None),
            [Step::Key(key), rest @ ..] if index(key).is_some() => (rest, index(key)),
            _ => {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(());
            }
        };
        for index in 0_usize.. {
            let more = match only {
                Some(only) if only != index => list.next_element::<IgnoredAny>()?.map(|_| ()),
                Some(_) => list.next_element_seed(Place { walk, steps: rest })?,
                None => {
                    walk.stars.push(index.to_string());
                    let more = list.next_element_seed(Place { walk, steps: rest })?;
                    walk.stars.pop();
                    more
                }
            };
            if more.is_none() {
                return Ok(());
            }
        }
        Err(A::Error::custom("a list without an end"))
    }
}

/// The number of an element, as RFC 6901 §4 has it written: without zeros before it.
fn index(key: &str) -> Option<usize> {
    key.parse().ok().filter(|number: &usize| number.to_string() == key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::try_from(text.to_owned()).unwrap()
    }

    fn found(document: &str, at: &str) -> Vec<String> {
        let found = values(document.as_bytes(), &pointer(at)).unwrap();
        found.into_iter().map(|found| found.text).collect()
    }

    #[test]
    fn stars_stand_for_all_elements_and_all_values() {
        let list = r#"[{"version":"1.0"},{"version":"1.1","x":[1,{}]},{"other":null},7]"#;
        assert_eq!(found(list, "/*/version"), ["1.0", "1.1"]);
        assert_eq!(found(list, "/1/version"), ["1.1"]);
        let object = r#"{"a/b":{"x":{"v":"1"},"y":{"v":2},"z":{"v":1.5}},"v":"no"}"#;
        assert_eq!(found(object, "/a~1b/*/v"), ["1", "2"]);
        assert_eq!(found(r#""1.0""#, ""), ["1.0"]);
        assert_eq!(found(object, "/nothing/*"), [""; 0]);
    }

    #[test]
    fn keys_and_dates_go_together() {
        let document = br#"{"time":{"1.0":"2024-01-01","created":"2020-01-01"},"versions":{"1.0":{},"1.1":[]}}"#;
        let all = keys(document, &pointer("/versions")).unwrap();
        let texts: Vec<_> = all.iter().map(|found| found.text.as_str()).collect();
        assert_eq!(texts, ["1.0", "1.1"]);
        let dates = dates(document, Some(&pointer("/time/*"))).unwrap();
        let date = |version: &str| dates.of(&[version.to_owned()]).map(|at| at.to_string());
        assert_eq!(date("1.0").as_deref(), Some("2024-01-01T00:00:00Z"));
        assert_eq!(date("1.1"), None);
    }

    /// A document of a few levels, with few keys, so that pointers meet them.
    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a/~*]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab01/~]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Without stars, a pointer is RFC 6901's, of which there is another reader.
        #[test]
        fn a_pointer_without_stars_is_the_standards(
            document in document(),
            steps in prop::collection::vec("[ab01/~]{0,2}", 0..4),
        ) {
            let escaped = |step: &String| format!("/{}", step.replace('~', "~0").replace('/', "~1"));
            let at: String = steps.iter().map(escaped).collect();
            let wanted = match document.pointer(&at) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) => number.as_u64().map(|number| number.to_string()),
                _ => None,
            };
            prop_assert_eq!(found(&document.to_string(), &at).pop(), wanted);
        }

        /// A star stands for what the same pointer without it finds, key by key.
        #[test]
        fn a_star_stands_for_each_key(document in document(), last in "[ab01]{0,2}") {
            let each: Vec<String> = match &document {
                Value::Object(map) => map.keys().cloned().collect(),
                Value::Array(list) => (0..list.len()).map(|index| index.to_string()).collect(),
                _ => Vec::new(),
            };
            let text = document.to_string();
            let one = |key: &String| {
                found(&text, &format!("/{}/{last}", key.replace('~', "~0").replace('/', "~1")))
            };
            let wanted: Vec<String> = each.iter().flat_map(one).collect();
            prop_assert_eq!(found(&text, &format!("/*/{last}")), wanted);
        }
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = "[".repeat(100_000);
        let many = format!("[{}1]", "1,".repeat(MOST));
        for bad in ["", "{", "[1,", "<html>", "{} x", &deep, &many] {
            let start: String = bad.chars().take(20).collect();
            assert!(values(bad.as_bytes(), &pointer("/*")).is_err(), "{start}");
        }
        assert!(values(b"{\"a\":\"\xff\"}", &pointer("/a")).is_err());
    }
}
