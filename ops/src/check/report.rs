//! How a verdict is shown.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{CheckArgs, Finding, Verdict};

/// Prints it.
#[allow(clippy::print_stdout, reason = "the program's output")]
pub(super) fn show(verdict: &Verdict, args: &CheckArgs) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string_pretty(verdict).context("cannot encode the verdict")?);
        return Ok(());
    }
    println!("conversations {:>10}", verdict.conversations);
    println!("devices       {:>10}", verdict.devices);
    println!("sends         {:>10}  ({} acknowledged, {} refused)", verdict.sends, verdict.sent, verdict.rejected);
    println!("messages      {:>10}  (different ones that somebody got)", verdict.messages);
    println!("updates       {:>10}", verdict.updates);
    let mut by_kind: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &verdict.findings {
        by_kind.entry(finding.kind).or_default().push(finding);
    }
    if by_kind.is_empty() {
        println!("\nnothing lost, nothing repeated, nothing out of order");
    }
    for (kind, findings) in by_kind {
        println!("\n{kind}: {}", findings.len());
        for finding in findings.iter().take(args.show) {
            println!("  {}", finding.detail);
        }
    }
    Ok(())
}
