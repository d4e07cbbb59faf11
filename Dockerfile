# The image of modulet: the program, the C library it was linked with, and certificate authorities. No shell, no package
# manager, a numeric user, nothing that is written to.
#
#   docker build --tag modulet .                     amd64 or arm64, as the machine is
#   docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example.org/modulet:0.1.0 --push .
#
# `make image` makes the same image without Docker and without a registry: it does what the stage `build` does on this
# machine, and hands the result to the last stage in its place (--build-context build=…).

# Debian, whose C library finds name servers without loading parts of itself (glibc 2.34 and newer).
ARG BUILDER=docker.io/library/rust:1.95-bookworm

FROM ${BUILDER} AS build
WORKDIR /source
COPY . .
# The commit, for the metric modulet_build_info: --build-arg MODULET_REVISION=$(git rev-parse HEAD)
ARG MODULET_REVISION
# Kernels for ARM have pages of 4, 16 or 64 KiB: the allocator is told the largest.
RUN if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi; \
    cargo build --release --locked --bin modulet
RUN image/root-filesystem target/release/modulet /root-filesystem

FROM scratch
COPY --from=build /root-filesystem/ /
LABEL org.opencontainers.image.title="modulet" \
      org.opencontainers.image.description="The kubelet for modules: bridges Koupleless bases to Kubernetes" \
      org.opencontainers.image.source="https://github.com/modulet/modulet" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number: Kubernetes cannot tell whether a name is root (runAsNonRoot). The one that the chart has.
USER 65532:65532
ENTRYPOINT ["/usr/bin/modulet"]
