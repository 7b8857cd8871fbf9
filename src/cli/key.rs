//! `publish key generate` and `publish key export`

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Ended, print, print_json, program};
use crate::config::{Config, SecretAt};
use crate::report::say;
use crate::sign::key::Kind;
use crate::sign::{self, KEYRING, Keyring, Signer, SigningKey};

/// Where a key goes if nobody says otherwise.
const KEY: &str = "signing.key";

/// What a user types.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a signing key
    Generate {
        /// RSA 4096 instead of Ed25519
        #[arg(long)]
        rsa: bool,
        /// Who the key says it is [default: publish, and the repository's host]
        #[arg(long, value_name = "TEXT")]
        user_id: Option<String>,
        /// The file for the key, never an existing one; - for stdout [default: signing.key, beside
        /// the configuration]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Write the keyring that nodes need: the public half of the signing key
    Export {
        /// Only the public half of this secret key, instead of the configured keyring
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// The file for the keyring; stdout, if left out
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// As text, for people: nodes read only the binary form
        #[arg(long)]
        armor: bool,
    },
}

#[derive(Serialize)]
struct Generated {
    file: Option<PathBuf>,
    fingerprint: String,
    algorithm: String,
}

#[derive(Serialize)]
struct Exported<'a> {
    file: &'a Path,
    fingerprints: Vec<String>,
}

pub(super) fn run(context: &Context, command: &Command) -> anyhow::Result<Ended> {
    match command {
        Command::Generate { rsa, user_id, output } => {
            let kind = if *rsa { Kind::Rsa } else { Kind::Ed25519 };
            generate(context, kind, user_id.as_deref(), output.as_deref())
        }
        Command::Export { key, output, armor } => {
            let keyring = match key {
                Some(file) => of_file(file)?,
                None => configured(context)?,
            };
            export(context, &keyring, output.as_deref(), *armor)
        }
    }
}

fn generate(
    context: &Context,
    kind: Kind,
    user: Option<&str>,
    output: Option<&Path>,
) -> anyhow::Result<Ended> {
    // The key may well be what the configuration still lacks.
    let file = context.config_file();
    let config = crate::config::load(&file).ok();
    let to_stdout = output == Some(Path::new("-"));
    let path = output.map_or_else(|| default_path(&file, config.as_ref()), Path::to_owned);
    if !to_stdout && fs::symlink_metadata(&path).is_ok() {
        bail!(
            "{} is there already\nhint: a key is never written over: move it away, or name another file with --output",
            path.display()
        );
    }
    if to_stdout && context.json {
        bail!("stdout can have the key or a JSON document, not both\nhint: give --output a file");
    }
    let user = user.map_or_else(|| default_user(config.as_ref()), str::to_owned);
    let text = SigningKey::generate(kind, &user, Timestamp::now())?;
    let key = SigningKey::read(&text, None, Timestamp::now())?;
    if to_stdout {
        io::stdout().lock().write_all(&text)?;
    } else {
        write_secret(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let generated = Generated {
        file: (!to_stdout).then(|| path.clone()),
        fingerprint: key.fingerprint(),
        algorithm: key.algorithm().to_owned(),
    };
    if context.json {
        print_json("key generate", &generated)?;
    } else if to_stdout {
        say(&next(&generated, &file, &user));
    } else {
        print(&next(&generated, &file, &user))?;
    }
    Ok(Ended::Well)
}

/// The file that the configuration names, or one beside it.
fn default_path(file: &Path, config: Option<&Config>) -> PathBuf {
    let signing = config.and_then(|config| config.document.signing.as_ref());
    let name = match signing.map(|signing| &signing.key) {
        Some(SecretAt::File(name)) => name.clone(),
        _ => PathBuf::from(KEY),
    };
    file.parent().unwrap_or(Path::new("")).join(name)
}

fn default_user(config: Option<&Config>) -> String {
    let url = config.and_then(|config| config.document.repository.url.as_ref());
    match url.and_then(url::Url::host_str) {
        Some(host) => format!("publish ({host})"),
        None => "publish".to_owned(),
    }
}

fn write_secret(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key would only be in the way of the next try.
        let _ = fs::remove_file(path);
    }
    written
}

fn next(generated: &Generated, config: &Path, user: &str) -> String {
    let Generated { file, fingerprint, algorithm } = generated;
    let program = program();
    let mut out = format!("made an {algorithm} key for {user}\n  fingerprint  {fingerprint}\n");
    let place = match file {
        Some(file) => {
            let _ = writeln!(
                out,
                "  secret       {}: keep it out of the store and of git, and keep a copy elsewhere",
                file.display()
            );
            let base = config.parent().unwrap_or(Path::new(""));
            let name = file.strip_prefix(base).unwrap_or(file);
            format!("{{ file = {:?} }}", name.display().to_string())
        }
        None => "{ env = \"PUBLISH_SIGNING_KEY\" }".to_owned(),
    };
    let _ = write!(
        out,
        "\nnext\n  in {config}\n    [signing]\n    key = {place}\n    best-before = \"14d\"\n  \
         {program} sync\n    signs every manifest, and puts {KEYRING} into the repository's root\n  \
         {program} key export --output {KEYRING}\n    \
         writes the keyring that each node needs at /etc/systemd/{KEYRING}\n",
        config = config.display(),
    );
    out
}

/// The keyring that nodes need for this configuration.
fn configured(context: &Context) -> anyhow::Result<Keyring> {
    let config = context.load()?;
    let signer = Signer::open(&config)?;
    match sign::client_keyring(&config, &signer)? {
        Some(keyring) => Ok(keyring),
        None => bail!(
            "{} has no [signing]\nhint: `publish key generate` makes a key, and says what to write there",
            config.file.display()
        ),
    }
}

/// The public half of a key that is not in use yet.
fn of_file(file: &Path) -> anyhow::Result<Keyring> {
    let secret = sign::secret::read(&SecretAt::File(file.to_owned()), Path::new(""))?;
    let key = SigningKey::read(&secret, None, Timestamp::now())
        .with_context(|| format!("cannot use {}", file.display()))?;
    Ok(key.public())
}

fn export(
    context: &Context,
    keyring: &Keyring,
    output: Option<&Path>,
    armor: bool,
) -> anyhow::Result<Ended> {
    let bytes = if armor { keyring.to_armored() } else { keyring.to_bytes() };
    let Some(path) = output.filter(|path| *path != Path::new("-")) else {
        if context.json {
            bail!("stdout can have the keyring or a JSON document, not both\nhint: give --output");
        }
        if io::stdout().is_terminal() && !armor {
            bail!("a terminal cannot show a keyring\nhint: --output FILE, or --armor");
        }
        io::stdout().lock().write_all(&bytes)?;
        return Ok(Ended::Well);
    };
    fs::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    if context.json {
        print_json("key export", &Exported { file: path, fingerprints: keyring.fingerprints() })?;
        return Ok(Ended::Well);
    }
    let mut out = format!("wrote {}\n", path.display());
    for fingerprint in keyring.fingerprints() {
        let _ = writeln!(out, "  {fingerprint}");
    }
    out.push_str(if armor {
        "nodes read only the binary form: without --armor\n"
    } else {
        "each node needs it at /etc/systemd/import-pubring.gpg\n"
    });
    print(&out)?;
    Ok(Ended::Well)
}
