//! `party data`: data sets checked and described.

use super::args::DescribeArgs;
use super::output::Output;
use crate::PartyError;
use galen_core::config;
use galen_data::{Limits, Schema};

/// Prints what a data set holds.
pub(super) fn describe(args: &DescribeArgs, output: &Output) -> anyhow::Result<()> {
    let schema: Schema = config::load(&args.schema).map_err(PartyError::from)?;
    let data = galen_data::load(&args.data, args.stored_as, &schema, &Limits::default())
        .map_err(PartyError::from)?;
    let description = data.describe();
    let text = description.to_string();
    output.say(description, || text)
}
