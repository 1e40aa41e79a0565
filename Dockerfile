# MindSpore OSUM on CPU:  docker build -t mindspore-osum .
#   docker run --rm -v "$PWD:/data" mindspore-osum infer a.wav
FROM python:3.11-slim-bookworm

# MindSpore's threads
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /usr/src/osum
# the dependencies first, from the three files that name them: a layer that changes of the code leave alone
COPY setup.py ./
COPY mindspore_osum/__init__.py mindspore_osum/
COPY scripts/stacks/2.7.txt ./
RUN pip install --no-cache-dir -c 2.7.txt ".[serve]"
COPY . .
RUN pip install --no-cache-dir --no-deps --force-reinstall . && osum --version

RUN useradd --create-home osum && mkdir /data && chown osum /data
USER osum
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["osum"]
CMD ["--help"]
