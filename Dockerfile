# Two static binaries and nothing else, as release/image makes it. Nothing but the image and package registries is reached.
FROM rust:1.95.0-bookworm AS build
# The image's own toolchain, so that rust-toolchain.toml does not have further components fetched.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /source
COPY Cargo.toml Cargo.lock Makefile LICENSE ./
COPY release release
COPY src src
RUN make static

FROM scratch
COPY --from=build /source/target/static/ /source/LICENSE /
USER 65532:65532
EXPOSE 9444
ENTRYPOINT ["/juicefs-sidecar"]
CMD ["webhook"]
