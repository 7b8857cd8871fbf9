//! The schema that editors check by, and the page of every key: they are current, they take what is right, and
//! they refuse what the program refuses.

use std::fs;
use std::path::{Path, PathBuf};

use publish::config::{self, component};
use serde_json::{Value, json};

use crate::repo::Repo;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a schema says against a text.
fn complaints(schema: &Value, text: &str) -> Vec<String> {
    let value: Value = toml::from_str(text).unwrap();
    complaints_about(schema, &value)
}

fn complaints_about(schema: &Value, value: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

#[test]
fn what_is_committed_is_current() {
    for (path, args) in [
        ("docs/schema/repository.json", ["schema", "repository"]),
        ("docs/schema/component.json", ["schema", "component"]),
        ("docs/config.md", ["schema", "--markdown"]),
    ] {
        let now = Repo::empty().publish(&args).ok().stdout;
        assert!(
            read(path) == now,
            "{path} is not current: `publish {}` prints what it must be",
            args.join(" ")
        );
    }
}

/// Every key has a sentence: what is not written at its field is missing on the page.
#[test]
fn every_key_is_told() {
    let page = read("docs/config.md");
    let bare: Vec<&str> = page.lines().filter(|line| line.ends_with("|  |")).collect();
    assert!(bare.is_empty(), "{bare:#?}");
    assert!(!page.contains("::"), "a path of the source is no name of a key");
}

/// The files of a folder that end so.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

#[test]
fn every_configuration_of_this_project_is_right() {
    let (repository, component) = (config::schema::repository(), config::schema::component());
    for file in files("config", "toml") {
        assert_eq!(complaints(&repository, &read(&file)), [""; 0], "{}", file.display());
    }
    let mut count = 0;
    for folder in ["config/components", "config/example", "config/release"] {
        for file in files(folder, "toml") {
            assert_eq!(complaints(&component, &read(&file)), [""; 0], "{}", file.display());
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

/// Examples on the pages are whole files, or tables of one, or keys of an asset.
#[test]
fn every_example_of_the_pages_is_right() {
    let (repository, component) = (config::schema::repository(), config::schema::component());
    let has = |schema: &Value, value: &Value| {
        let keys = value.as_object().unwrap();
        keys.keys().all(|key| schema["properties"].get(key).is_some())
    };
    let mut pages = files("docs", "md");
    pages.extend(files("docs/sources", "md"));
    pages.push("README.md".into());
    let mut count = 0;
    for page in pages {
        for block in read(&page).split("\n```toml\n").skip(1) {
            let text = block.split("\n```").next().unwrap_or_default();
            let mut value: Value = toml::from_str(text)
                .unwrap_or_else(|error| panic!("{}: {error}\n{text}", page.display()));
            // publish.lock, whose keys are no configuration's.
            if value.get("component").is_some() {
                continue;
            }
            // A table of an asset that is not shown as a whole.
            if let Some(asset) = value.get_mut("asset").filter(|asset| asset.is_object()) {
                *asset = json!([asset.take()]);
            }
            let schema = if has(&repository, &value) {
                value.as_object_mut().unwrap().entry("repository").or_insert_with(|| json!({}));
                &repository
            } else if has(&component, &value) {
                &component
            } else {
                value = json!({ "asset": [value] });
                &component
            };
            let wrong = complaints_about(schema, &value);
            assert!(wrong.is_empty(), "{}:\n{text}\n{wrong:#?}", page.display());
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn what_the_program_refuses_the_schema_refuses() {
    let schema = config::schema::repository();
    for text in [
        "[repositry]\n",
        "[repository]\nstores = \"public\"\n",
        "[repository]\nstore = \"\"\n",
        "[repository]\narchitectures = [\"aarch64\"]\n",
        "[repository]\narchitectures = \"arm64\"\n",
        "[repository]\n[signing]\n",
        "[repository]\n[signing]\nkey = \"secret\"\n",
        "[repository]\n[signing]\nkey = { env = \"K\", file = \"k\" }\n",
        "[repository]\n[signing]\nkey = { file = \"k\" }\nbest-before = 14\n",
        "[repository]\n[retention]\ngrace = \"soon\"\n",
        "[repository]\n[retention]\nmax-delete = -1\n",
        "[repository]\n[network]\nconcurrency = 0\n",
        "[repository]\n[network]\nper-host = 2000\n",
        "[repository]\n[network.credentials]\nh = { tokens = { env = \"T\" } }\n",
        "[repository]\n[limits]\ndownload = \"4GB\"\n",
        "[repository]\n[limits]\ndownload = 4\n",
        "[repository]\n[trust]\nrequire = \"much\"\n",
    ] {
        assert!(config::parse(Path::new("publish.toml"), text).is_err(), "{text}");
        assert!(!complaints(&schema, text).is_empty(), "{text}");
    }
    let schema = config::schema::component();
    let git = "[source.git]\nurl = \"https://e.org/x\"\n";
    let asset = "[[asset]]\nurl = \"https://e.org/{version}\"\n";
    for text in [
        "[source.git]\n".to_owned(),
        "[source.git]\nurl = \"ssh://e.org/x\"\n".to_owned(),
        "[source.github]\nrepo = \"x\"\n".to_owned(),
        format!("{git}[source.github]\nrepo = \"a/b\"\n"),
        "[source]\ncommand = []\n".to_owned(),
        format!("path = \"../x\"\n{git}"),
        format!("{git}[versions]\nnewest = \"3\"\n"),
        format!("{git}[versions]\nper = \"patch\"\n"),
        format!("{git}[versions]\nexclude = \"1.0\"\n"),
        format!("{git}[arch]\naarch64 = \"x\"\n"),
        format!("{git}[[asset]]\nurl = 1\n"),
        format!("{git}{asset}sha1 = \"x\"\n"),
        format!("{git}{asset}trust = \"blind\"\n"),
        format!("{git}{asset}[asset.files]\n\"/usr/bin/x\" = \"x\"\n"),
        format!("{git}{asset}[asset.files]\n\"usr/bin/x\" = {{ from = \"x\", mode = \"rwx\" }}\n"),
        format!("{git}{asset}[asset.files]\n\"usr/bin/x\" = {{ form = \"x\" }}\n"),
        format!("{git}{asset}[asset.signature]\ngpg = \"x\"\n"),
        format!("{git}[services]\nenable = [\"tailscaled\"]\n"),
        format!("{git}[extension]\nkind = \"portable\"\n"),
        format!("{git}[image]\ncompression = \"brotli\"\n"),
        format!("{git}[image]\nblock-size = 4096\n"),
        format!("{git}[lint]\nallow = [\"set-uid\"]\n"),
        format!("{git}[lint.allow]\nset-uid = [\"usr/bin/x\"]\n"),
        format!("{git}[require]\npaths = [\"/usr/bin/x\"]\n"),
        format!("{git}[build]\ncommand = []\n"),
        format!("{git}[build]\ncommand = [\"x\"]\nengine = \"lxc\"\n"),
        format!("{git}[test]\n"),
        format!(
            "{git}[[companion]]\nname = \"a.b\"\n[companion.source.git]\nurl = \"https://e.org\"\n"
        ),
    ] {
        let parsed = component::parse("x".parse().unwrap(), Path::new("x.toml"), &text);
        assert!(parsed.is_err(), "{text}");
        assert!(!complaints(&schema, &text).is_empty(), "{text}");
    }
}

/// Each default, with the tables around it.
fn defaults(root: &Value, schema: &Value, path: &[String], found: &mut Vec<(Vec<String>, Value)>) {
    if path.len() > 5 {
        return;
    }
    let schema = schema.get("allOf").map_or(schema, |all| &all[0]);
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap();
        return defaults(root, &root["definitions"][name], path, found);
    }
    for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = [path, std::slice::from_ref(key)].concat();
        if let Some(default) = value.get("default") {
            found.push((path.clone(), default.clone()));
        }
        defaults(root, value, &path, found);
    }
}

/// To write a default down changes nothing.
#[test]
fn every_default_is_what_leaving_it_out_means() {
    let schema = config::schema::repository();
    let mut found = Vec::new();
    defaults(&schema, &schema, &[], &mut found);
    let read = |text: &str| {
        let text = format!("{text}\n");
        format!("{:?}", config::parse(Path::new("publish.toml"), &text).unwrap())
    };
    let mut count = 0;
    for (path, default) in found {
        let (key, tables) = path.split_last().unwrap();
        let needs = if tables[0] == "signing" { "key = { env = \"K\" }\n" } else { "" };
        let table = tables.join(".");
        let repository = if table == "repository" { "" } else { "[repository]\n" };
        let with = format!("{repository}[{table}]\n{needs}{key} = {default}");
        let without = format!("{repository}[{table}]\n{needs}");
        assert_eq!(read(&with), read(&without), "{with}");
        count += 1;
    }
    assert!(count >= 12, "{count}");

    let schema = config::schema::component();
    let mut found = Vec::new();
    defaults(&schema, &schema, &[], &mut found);
    let read = |text: &str| {
        let parsed = component::parse("x".parse().unwrap(), Path::new("x.toml"), text);
        parsed.map(|component| format!("{component:?}"))
    };
    let mut count = 0;
    for (path, default) in found {
        let (key, tables) = path.split_last().unwrap();
        let table = tables.join(".");
        let needs = match table.as_str() {
            "build" if key == "ref" => "dispatch = \"o/r/w.yml\"\n",
            "build" => "command = [\"x\"]\n",
            "test" => "run = [\"x\"]\n",
            "source.gitlab" => "project = \"a/b\"\n",
            "source.github" => "repo = \"a/b\"\n",
            "source.gitea" => "url = \"https://e.org\"\nrepo = \"a/b\"\n",
            "source.repository" => "url = \"https://e.org/x/\"\nunsigned = true\n",
            "source.http" => "url = \"https://e.org\"\npointer = \"/x\"\n",
            _ => "",
        };
        let source = if table.starts_with("source") {
            ""
        } else {
            "[source.git]\nurl = \"https://e.org\"\n"
        };
        // Of these the key alone tells that something is said, or they go with another.
        if ["format", "preset", "name", "match", "unsigned"].contains(&key.as_str()) {
            continue;
        }
        let without = format!("{source}[{table}]\n{needs}");
        let with = format!("{without}{key} = {default}\n");
        assert_eq!(read(&with).unwrap(), read(&without).unwrap(), "{with}");
        count += 1;
    }
    assert!(count >= 15, "{count}");
}
