//! How a verdict is shown.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{CheckArgs, Finding, Verdict};

/// Prints it.
pub(super) fn show(verdict: &Verdict, args: &CheckArgs) -> Result<()> {
    if args.json {
        outln!("{}", serde_json::to_string_pretty(verdict).context("cannot encode the verdict")?);
        return Ok(());
    }
    outln!("conversations {:>10}", verdict.conversations);
    outln!("devices       {:>10}", verdict.devices);
    outln!("sends         {:>10}  ({} acknowledged, {} refused)", verdict.sends, verdict.sent, verdict.rejected);
    outln!("messages      {:>10}  (different ones that somebody got)", verdict.messages);
    outln!("updates       {:>10}", verdict.updates);
    let mut by_kind: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &verdict.findings {
        by_kind.entry(finding.kind).or_default().push(finding);
    }
    if by_kind.is_empty() {
        outln!("\nnothing lost, nothing repeated, nothing out of order");
    }
    for (kind, findings) in by_kind {
        outln!("\n{kind}: {}", findings.len());
        for finding in findings.iter().take(args.show) {
            outln!("  {}", finding.detail);
        }
    }
    Ok(())
}
