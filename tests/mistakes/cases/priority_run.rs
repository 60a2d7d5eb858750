//! The `run` of a policy that tells requests apart
//~ type mismatch in closure arguments
//~ // over requests: `policy.run_for(&request, op)`

use buttress::{Criticality, Error, LoadShed};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shed = LoadShed::builder("reports")
        .priority(|batch: &bool| match batch {
            true => Criticality::Sheddable,
            false => Criticality::Critical,
        })
        .build()?
        .queued();
    let op = async || Ok::<_, Error<std::io::Error>>(7);
    #[cfg(not(feature = "cure"))]
    shed.run(op).await?;
    #[cfg(feature = "cure")]
    shed.run_for(&true, op).await?;
    Ok(())
}
