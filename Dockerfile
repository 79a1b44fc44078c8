# The image of a run. For CPUs; `--build-arg ACCELERATOR=gpu` or `tpu` makes those for NVIDIA's GPUs
# and Google's TPUs:
#
#   docker build --build-arg ACCELERATOR=gpu --tag drm:gpu .
#
# CUDA comes with jax, from PyPI; the driver is the host's. The project's experiments are in the
# image, so a new one needs a new image, of which only the last layers change.
FROM python:3.12-slim-bookworm AS build
ARG ACCELERATOR=cpu
WORKDIR /project
RUN python -m venv /opt/drm
# Dependencies first: they change less often than the code.
COPY pyproject.toml constraints.txt README.md ./
COPY drm_jax/__init__.py drm_jax/
RUN case "$ACCELERATOR" in \
      cpu) extras=gcs ;; \
      gpu | tpu) extras="$ACCELERATOR,gcs" ;; \
      *) echo "ACCELERATOR=$ACCELERATOR: must be cpu, gpu or tpu" >&2; exit 2 ;; \
    esac && \
    /opt/drm/bin/pip install --no-cache-dir --constraint constraints.txt ".[$extras]"
COPY drm_jax drm_jax
RUN /opt/drm/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM python:3.12-slim-bookworm
# As the first process of a container, drm would miss signals that it has no handler for yet.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends tini && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --create-home --uid 1000 drm
COPY --from=build /opt/drm /opt/drm
# GKE puts the GPUs' driver there.
ENV PATH=/opt/drm/bin:$PATH LD_LIBRARY_PATH=/usr/local/nvidia/lib64
USER 1000
WORKDIR /home/drm
COPY experiments experiments
ENTRYPOINT ["tini", "--", "drm"]
CMD ["--help"]
