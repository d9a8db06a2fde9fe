# One static binary in an empty image: no shell, no libc, no package to patch. The roots of public CAs are in the binary.
#
#   docker build -t bursar --build-arg REVISION="$(git rev-parse --short HEAD)" .
#   docker run --rm --read-only --cap-drop ALL bursar version
#
# Give it /etc/bursar/config.toml and its secrets as read-only mounts; it writes nothing. Its user is 65532: a mounted secret
# must be readable by that user, or by its group (Kubernetes: fsGroup). README, "Container image", says more.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src

# The dependencies first: their layer stays as long as Cargo.lock does.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/hot_path \
 && touch src/lib.rs src/main.rs benches/hot_path/main.rs \
 && cargo fetch --locked --target "$(uname -m)-unknown-linux-gnu"

COPY . .
ARG REVISION=unknown
# crt-static needs the explicit --target: without it, build scripts and proc macros would be built that way too. The prefixes keep the paths
# of this build out of panic messages, and two builds in different folders alike.
RUN target="$(uname -m)-unknown-linux-gnu" \
 && BURSAR_REVISION="$REVISION" \
    RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/usr/local/cargo=cargo --remap-path-prefix=/src=bursar" \
    cargo build --release --locked --target "$target" \
 && install -D "target/$target/release/bursar" /out/usr/bin/bursar

FROM scratch
LABEL org.opencontainers.image.title="bursar" \
      org.opencontainers.image.description="A token-brokering sidecar reverse proxy for Learning Management Systems" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /
ENV PATH=/usr/bin
USER 65532:65532
# Asks bursar's own admin socket, as the configuration names it; Kubernetes uses its own probes and ignores this.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["bursar", "health"]
ENTRYPOINT ["bursar"]
CMD ["run"]
