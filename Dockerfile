# syntax=docker/dockerfile:1
#
# One static binary and an empty data directory; no shell, no libc, no root.
#
#   docker build -t milepost .
#   docker run -p 127.0.0.1:8080:8080 -v milepost:/data -e MILEPOST_AUTH_MODE=none milepost
#
# Inside a container the service must listen beyond loopback, and it refuses to do that unprotected unless told so:
# MILEPOST_AUTH_MODE=none says that whoever reaches the port may read and change every job. That is for whoever runs it
# to say, so it is not set here; the port above is published to this machine alone.
# /data is for a named volume or a directory that user 65532 may write.

# The same release as in rust-toolchain.toml.
FROM rust:1.95.0-slim AS build
# musl-gcc compiles the bundled SQLite; TARGET_CC keeps build scripts on the image's own compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/*
ENV TARGET_CC=musl-gcc
RUN rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(uname -m)-unknown-linux-musl" \
    && cargo build --release --locked --bin milepost --target "$target" \
    && install -D "target/$target/release/milepost" /out/milepost \
    && mkdir /out/data

FROM scratch
COPY --from=build /out/milepost /milepost
# A volume takes its owner from the directory it covers.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# SQLite's temporary files, should it need any, go to the working directory: there is no /tmp.
WORKDIR /data
VOLUME /data
ENV MILEPOST_LISTEN=0.0.0.0:8080 MILEPOST_STORE=/data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/milepost", "healthcheck"]
ENTRYPOINT ["/milepost"]
CMD ["serve"]
