# The image of a JupyterHub's servers, for a class: docker build --tag effattn .
#   --build-arg EFFATTN_TORCH=cuda    where the hub's nodes have NVIDIA GPUs (default cpu: kernels are interpreted)
# Versions are those of pyproject.toml and constraints.txt, by the same installer as on a laptop.
FROM quay.io/jupyter/minimal-notebook:python-3.13

ARG EFFATTN_TORCH=cpu

# Triton compiles a small C program when it first launches a kernel on a GPU.
USER root
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
# A hub lays each reader's own volume over the home folder: the repository lives beside it, and its chapters are copied
# into the volume when a server first starts.
COPY --chown=${NB_UID}:${NB_GID} . /opt/effattn
RUN install -d /usr/local/bin/before-notebook.d \
 && echo '[ -e "${HOME}/effattn" ] || cp -r /opt/effattn/book "${HOME}/effattn"' > /usr/local/bin/before-notebook.d/50-effattn.sh

USER ${NB_UID}
RUN EFFATTN_TORCH=${EFFATTN_TORCH} /opt/effattn/.ci/install "${CONDA_DIR}" lab && rm -rf "${HOME}/.cache"
