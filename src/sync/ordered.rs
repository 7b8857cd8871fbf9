//! Builds that a plan on another machine ordered.
//!
//! Owns that only upstreams are asked for them: what is published was looked at there, so that a machine
//! that builds needs to know nothing of the store.

use std::sync::Arc;

use jiff::Timestamp;

use super::survey::{arches_of, basis_of, overlay, poll};
use crate::build::Workshop;
use crate::config::{Component, Config};
use crate::plan::{self, Build, Upstream};
use crate::report::{Step, Told};
use crate::source::memory::Memory;
use crate::stage::Order;

/// Asks a component's upstreams for what was ordered of it: each build, or why there is none.
///
/// # Errors
/// The upstream, or what is beside the component's file, cannot be read.
pub async fn ordered(
    config: &Config,
    component: &Arc<Component>,
    shop: &Workshop,
    orders: &[&Order],
) -> anyhow::Result<Vec<Result<Build, Told>>> {
    let arches = arches_of(config, component);
    let task = shop.progress.begin(Step::Poll, component.name.as_str());
    let (listing, companions) = poll(component, &arches, shop, &Memory::default()).await?;
    task.finish(0);
    let companions = companions.into_iter().map(|listing| listing.releases).collect();
    let upstream = Upstream::new(component, listing.releases, companions, Timestamp::now());
    let mut basis = basis_of(config);
    basis.overlay = overlay(component).await?;
    let build = |order: &&Order| {
        plan::ordered(component, &arches, &upstream, basis, order).map_err(|refusal| Told {
            message: format!("{} {refusal}", component.name),
            causes: Vec::new(),
            hint: Some(refusal.hint),
        })
    };
    Ok(orders.iter().map(build).collect())
}
