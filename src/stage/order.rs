//! Orders: which images other machines are to build, and how those are spread over jobs.
//!
//! Owns the text of an order, which has in it all that a machine must know that cannot read the store,
//! and the matrix that GitHub Actions takes. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Component;
use crate::config::build::Maker;
use crate::name::{Arch, ComponentName, FileName, Sha256};
use crate::plan::{Build, Why};
use crate::report::count;
use crate::repository::commit::CompanionRecord;
use crate::version::Version;

/// The most jobs of a matrix that GitHub takes.
pub const MOST: usize = 256;

/// The longest matrix: an output of a job has at most 1 MiB, counted in UTF-16.
const LONGEST: usize = 400_000;

/// An image that another machine is to build: the very one that the plan wants, whatever its upstream
/// has by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The component.
    pub component: ComponentName,
    /// What upstream calls the release.
    pub tag: String,
    /// Its version, without a revision.
    pub version: Version,
    /// Which revision of that it is.
    #[serde(default, skip_serializing_if = "is_first")]
    pub revision: u32,
    /// Its architecture.
    pub arch: Arch,
    /// What the image is called.
    pub image: FileName,
    /// The recipe that the plan rests on.
    pub recipe: Sha256,
    /// What the published image is dated, if this is to be the same one again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    /// Which releases of its companions go in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub companions: BTreeMap<String, CompanionRecord>,
    /// Whether nobody has it yet, so that its files may still be on their way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn is_first(revision: &u32) -> bool {
    *revision == 0
}

impl Order {
    /// The order for a build of the plan.
    #[must_use]
    pub fn of(component: &ComponentName, build: &Build) -> Self {
        Self {
            component: component.clone(),
            tag: build.release.tag.clone(),
            version: build.version.clone(),
            revision: build.revision,
            arch: build.arch,
            image: build.image.clone(),
            recipe: build.recipe,
            time: build.time,
            companions: build.company.record(),
            new: matches!(build.why, Why::NewVersion | Why::NewArchitecture),
        }
    }

    /// The version that clients see.
    #[must_use]
    pub fn shown(&self) -> String {
        self.version
            .revised(self.revision)
            .map_or_else(|_| self.version.to_string(), |version| version.to_string())
    }

    /// Reads the orders of one job.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read_all(text: &str) -> Result<Vec<Self>, String> {
        let orders: Vec<Self> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if orders.is_empty() { Err("it orders nothing".to_owned()) } else { Ok(orders) }
    }
}

/// The jobs that the orders are spread over, as GitHub Actions takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// One job each.
    pub include: Vec<Entry>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What people see: `tailscale 1.58.1 x86-64`.
    pub name: String,
    /// The component, if it is one image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentName>,
    /// Its version, as clients see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// How many images it builds.
    pub images: usize,
    /// The machine to build on, by GitHub's names.
    pub runner: String,
    /// Its place in the matrix.
    pub index: usize,
    /// The orders, as `publish build --job` takes them.
    pub job: String,
}

/// A machine of GitHub's, for an image.
///
/// A recipe is only unpacking and compressing, which any machine does for any architecture; a command
/// of `[build]` in a container has programs of the image's own.
#[must_use]
pub fn runner(component: &Component, arch: Arch) -> &'static str {
    let native = component.build.as_ref().is_some_and(|rule| match &rule.by {
        Maker::Command(command) => command.container.is_some(),
        Maker::Workflow(_) => false,
    });
    if native && arch.as_str() == "arm64" { "ubuntu-24.04-arm" } else { "ubuntu-latest" }
}

impl Matrix {
    /// Spreads orders over jobs: one each, as long as there are not too many. What of them is too much
    /// for one matrix is left for the next run, whole versions of it; says how many images that are.
    #[must_use]
    pub fn spread(orders: Vec<(Order, &'static str)>) -> (Self, usize) {
        let all = orders.len();
        let mut versions: Vec<Vec<(Order, &'static str)>> = Vec::new();
        for order in orders {
            let same = |last: &Vec<(Order, &str)>| {
                let (last, this) = (&last[0].0, &order.0);
                last.component == this.component && last.shown() == this.shown()
            };
            match versions.last_mut().filter(|last| same(last)) {
                Some(version) => version.push(order),
                None => versions.push(vec![order]),
            }
        }
        loop {
            let kept: Vec<_> = versions.iter().flatten().cloned().collect();
            let number = kept.len();
            let matrix = Self::of(kept);
            let length = matrix.line().len();
            if length <= LONGEST || versions.is_empty() {
                return (matrix, all - number);
            }
            // In proportion, and at least one.
            let keep = versions.len() * LONGEST / length;
            versions.truncate(keep.min(versions.len() - 1));
        }
    }

    fn of(orders: Vec<(Order, &'static str)>) -> Self {
        let mut by_runner: BTreeMap<&str, Vec<Order>> = BTreeMap::new();
        for (order, runner) in orders {
            by_runner.entry(runner).or_default().push(order);
        }
        let jobs =
            |size: usize| -> usize { by_runner.values().map(|all| all.len().div_ceil(size)).sum() };
        let largest = by_runner.values().map(Vec::len).max().unwrap_or(1).max(1);
        let size = (1..largest).find(|size| jobs(*size) <= MOST).unwrap_or(largest);
        let groups = by_runner
            .iter()
            .flat_map(|(runner, all)| all.chunks(size).map(|orders| (*runner, orders)));
        let entries =
            groups.enumerate().map(|(index, (runner, orders))| entry(index, runner, orders));
        Self { include: entries.collect() }
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// All orders of it.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn orders(&self) -> Result<Vec<Order>, String> {
        let orders = self.include.iter().map(|entry| Order::read_all(&entry.job));
        Ok(orders.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// One line of JSON.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("it has only text keys")
    }
}

fn entry(index: usize, runner: &str, orders: &[Order]) -> Entry {
    let first = &orders[0];
    let name = format!("{} {} {}", first.component, first.shown(), first.arch);
    let one = orders.len() == 1;
    Entry {
        name: if one {
            name
        } else {
            format!("{name} and {}", count(orders.len() - 1, "more image"))
        },
        component: one.then(|| first.component.clone()),
        version: one.then(|| first.shown()),
        arch: one.then_some(first.arch),
        images: orders.len(),
        runner: runner.to_owned(),
        index,
        job: serde_json::to_string(orders).expect("it has only text keys"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(number: usize) -> Vec<(Order, &'static str)> {
        let order = |n: usize| {
            let (version, arch) = (n / 2, ["x86-64", "arm64"][n % 2]);
            let order = Order {
                component: "tool".parse().unwrap(),
                tag: format!("v1.{version}"),
                version: format!("1.{version}").parse().unwrap(),
                revision: 0,
                arch: arch.to_owned().try_into().unwrap(),
                image: format!("tool-1.{version}-{arch}.raw").parse().unwrap(),
                recipe: Sha256::of(b""),
                time: None,
                companions: BTreeMap::new(),
                new: true,
            };
            (order, ["ubuntu-latest", "ubuntu-24.04-arm"][usize::from(n % 10 == 1)])
        };
        (0..number).map(order).collect()
    }

    #[test]
    fn few_orders_get_a_job_each() {
        let (matrix, left) = Matrix::spread(orders(5));
        assert_eq!((matrix.include.len(), left), (5, 0));
        let names: Vec<_> = matrix.include.iter().map(|entry| entry.name.as_str()).collect();
        assert!(names.contains(&"tool 1.0 arm64") && names.contains(&"tool 1.2 x86-64"));
        assert!(matrix.include.iter().enumerate().all(|(index, entry)| entry.index == index));
        assert_eq!(Matrix::spread(Vec::new()).0.line(), r#"{"include":[]}"#);
    }

    #[test]
    fn many_are_grouped_and_none_is_lost() {
        for number in [MOST, MOST + 1, 600, 1000] {
            let all = orders(number);
            let (matrix, left) = Matrix::spread(all.clone());
            assert!(matrix.include.len() <= MOST, "{number}: {}", matrix.include.len());
            assert_eq!(matrix.include.len() == number, number == MOST);
            assert_eq!(left, 0);
            let mut read = matrix.orders().unwrap();
            let mut wanted: Vec<Order> = all.into_iter().map(|(order, _)| order).collect();
            read.sort_by(|a, b| a.image.cmp(&b.image));
            wanted.sort_by(|a, b| a.image.cmp(&b.image));
            assert_eq!(read, wanted);
            assert_eq!(Matrix::read(matrix.line().as_bytes()).unwrap(), matrix);
            // A group is for one kind of machine.
            for entry in &matrix.include {
                let orders = Order::read_all(&entry.job).unwrap();
                assert_eq!(orders.len(), entry.images);
            }
        }
    }

    #[test]
    fn too_many_for_an_output_are_left_by_whole_versions() {
        let (matrix, left) = Matrix::spread(orders(20_000));
        assert!(matrix.line().len() <= LONGEST && matrix.line().len() > LONGEST / 2);
        let kept = matrix.orders().unwrap().len();
        assert_eq!(kept + left, 20_000);
        assert_eq!(kept % 2, 0, "both architectures of a version, or none");
        assert!(matrix.include.len() <= MOST);
    }
}
