//! A build that was planned on another machine.
//!
//! Owns that it is the very one that was planned there: this release, these companions, this recipe.
//! What is newer by now is none of its business.

use jiff::Timestamp;

use super::revision::Planner;
use super::{Basis, Build, Candidate, Company, Refusal, Upstream, Why, image_name, recipe_of};
use crate::config::Component;
use crate::name::Arch;
use crate::repository::Published;
use crate::stage::Order;

/// The build that was ordered.
///
/// # Errors
/// It cannot be made here as it was planned there.
pub fn ordered(
    component: &Component,
    arches: &[(Arch, String)],
    upstream: &Upstream,
    basis: Basis,
    order: &Order,
) -> Result<Build, Refusal> {
    let refuse = |problem: String, hint: &str| Refusal {
        tag: format!("{} {}", order.shown(), order.arch),
        problem,
        hint: hint.to_owned(),
    };
    let same = "plan, build and sync from one commit of the configuration, with one version of this program";
    let is_it = |judged: &&super::Judged| {
        judged.release.tag == order.tag && judged.version.as_ref() == Some(&order.version)
    };
    let Some(judged) = upstream.judged.iter().find(is_it) else {
        let problem = format!("upstream has no release `{}` any more", order.tag.escape_debug());
        return Err(refuse(problem, "the next run plans without it"));
    };
    let candidate = Candidate {
        version: order.version.clone(),
        upstream: judged.upstream().unwrap_or_default().to_owned(),
        release: judged.release.clone(),
    };
    let Some(at) = arches.iter().find(|(arch, _)| *arch == order.arch) else {
        return Err(refuse(format!("it is not built for {} here", order.arch), same));
    };
    let company = Company::recorded(component, &upstream.companions, &order.companions);
    let company =
        company.ok_or_else(|| refuse("it is planned with other companions".to_owned(), same))?;
    let shown = order.version.revised(order.revision);
    let shown = shown.map_err(|problem| refuse(problem.to_string(), same))?;
    let image =
        image_name(component, &shown, order.arch).map_err(|problem| refuse(problem, same))?;
    if image != order.image {
        return Err(refuse(
            format!("it is called {image} here, and {} in the plan", order.image),
            same,
        ));
    }
    let recipe = recipe_of(component, basis.overlay, &candidate, &company, at);
    if recipe != order.recipe {
        let problem = "its recipe is another one here than in the plan".to_owned();
        return Err(refuse(problem, same));
    }
    let (published, now) = (Published::default(), Timestamp::UNIX_EPOCH);
    let planner = Planner::new(component, arches, upstream, &published, basis, now);
    let build = planner.build(&candidate, order.revision, &shown, at, image, recipe, &company);
    Ok(Build { why: Why::Asked, time: order.time, ..build })
}
