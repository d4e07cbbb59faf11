//! Images as archives, made by buildah.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// An image in a file.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name and tag, as a Pod has it.
    pub name: String,
    /// The OCI archive.
    pub archive: PathBuf,
}

impl Image {
    /// The image of modulet with this program in it, built and looked at as `make image` does; and what that says.
    pub async fn of_modulet(program: &Path, name: &str, directory: &Path) -> Result<(Self, String)> {
        let archive = directory.join("modulet.tar");
        let mut build = Command::new(Path::new(ROOT).join("image/archive"));
        let said = run(build.arg(program).arg(name).arg(&archive)).await?;
        Ok((Self { name: name.to_owned(), archive }, said))
    }

    /// An image with any program in it, and the libraries it needs; by itself it runs `args`.
    pub async fn of_program(program: &Path, args: &[&str], name: &str, directory: &Path) -> Result<Self> {
        let archive = directory.join("program.tar");
        let root = directory.join("program");
        run(Command::new(Path::new(ROOT).join("image/root-filesystem")).arg(program).arg(&root)).await?;
        let file = program.file_name().context("a program without a name")?.to_string_lossy().into_owned();
        let [entry, args] = [vec![format!("/usr/bin/{file}")], args.iter().map(|arg| (*arg).to_owned()).collect()]
            .map(|words: Vec<String>| serde_json::json!(words).to_string());
        let text = format!("FROM scratch\nCOPY program/ /\nUSER 65532:65532\nENTRYPOINT {entry}\nCMD {args}\n");
        let dockerfile = directory.join("Dockerfile");
        std::fs::write(&dockerfile, text)?;
        let buildah = || {
            let mut buildah = Command::new("buildah");
            buildah.envs([("BUILDAH_ISOLATION", "chroot"), ("STORAGE_DRIVER", "vfs")]);
            buildah.arg("--root").arg(directory.join("storage")).arg("--runroot").arg(directory.join("storage-run"));
            buildah
        };
        run(buildah().args(["build", "--quiet", "--tag", name, "--file"]).arg(&dockerfile).arg(directory)).await?;
        let to = format!("oci-archive:{}:docker.io/library/{name}", archive.display());
        run(buildah().args(["push", "--quiet", name, &to])).await?;
        Ok(Self { name: name.to_owned(), archive })
    }

    /// Its name in full, without the tag.
    pub(super) fn repository(&self) -> String {
        let name = self.name.split_once(':').map_or(self.name.as_str(), |(repository, _)| repository);
        format!("docker.io/library/{name}")
    }
}

async fn run(command: &mut Command) -> Result<String> {
    let output = command.kill_on_drop(true).output().await?;
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
