//! The `run` of a policy that tells requests apart
//~ type mismatch in closure arguments
//~ // over requests: `guard::run(&policy, &request, op)`

use buttress::{Criticality, Error, LoadShed, guard};

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
    guard::run(&shed, &true, op).await?;
    Ok(())
}
