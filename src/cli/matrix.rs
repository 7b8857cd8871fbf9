//! `publish plan --matrix`: the images to build, as jobs for other machines.

use std::path::Path;

use super::staged::unserved;
use super::{Context, Ended, actions, write};
use crate::report::{count, runner, say};
use crate::stage::{self, Matrix, Order, order};
use crate::store::{Access, Store};
use crate::sync;

/// Ends well with whatever can be built: what is wrong with the others is the sync's to tell, and stops
/// nobody's build.
pub(super) async fn run(context: &Context, staged: Option<&Path>) -> anyhow::Result<Ended> {
    let config = context.load()?;
    if let Some(folder) = staged {
        unserved(&config, folder)?;
    }
    let shop = sync::workshop(&config, &context.progress)?;
    let store = Store::configured(&config, Access::Read)?;
    let surveys = sync::survey_all(&config, &shop, &store, None).await;
    let mut orders = Vec::new();
    for survey in &surveys {
        let survey = match survey {
            Ok(survey) => survey,
            Err(failed) => {
                say(&failed.error.text());
                continue;
            }
        };
        for told in sync::refusals(survey) {
            say(&told.text());
        }
        let component = &survey.component;
        // The last machine copies these itself: there is nothing to compute.
        if component.mirrored().is_some() {
            continue;
        }
        let of_it = survey.plan.builds().map(|build| {
            let runner = order::runner(component, build.arch);
            (Order::of(&component.name, build), runner)
        });
        orders.extend(of_it);
    }
    let (matrix, left) = Matrix::spread(orders);
    if left > 0 {
        let images = count(left, "image");
        say(&format!("warning: {images} more than a matrix can hold: the next run builds them\n"));
    }
    if let Some(folder) = staged {
        stage::keep_plan(folder, &matrix)?;
    }
    let line = runner::json(matrix.line());
    actions::output("jobs", &matrix.include.len().to_string());
    actions::output("matrix", &line);
    actions::planned(&matrix);
    write(&format!("{line}\n"))?;
    Ok(Ended::Well)
}
