"""A web service that answers an image with its most probable classes: `pip install fastapi python-multipart uvicorn`.

    python examples/serve_fastapi.py runs/lenet             # then: curl -F image=@shoe.png localhost:8000/predict
    python examples/serve_fastapi.py hf://user/repo --port 9000

Images are prepared as in training. A picture that cannot be read is answered with status 422 and the reason.
"""

from __future__ import annotations

import argparse
import io

import uvicorn
from fastapi import FastAPI, HTTPException, UploadFile
from PIL import Image

import cnnzoo


def make_app(model: str) -> FastAPI:
    app, network = FastAPI(title=f"cnnzoo: {model}"), cnnzoo.load(model)

    @app.post("/predict")
    def predict(image: UploadFile) -> dict[str, float]:
        try:
            picture = Image.open(io.BytesIO(image.file.read()))
            return dict(cnnzoo.predict(network, picture).top())
        except (OSError, cnnzoo.CnnzooError) as error:
            raise HTTPException(422, str(error)) from None

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run folder, a weights file or hf://user/repo")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    uvicorn.run(make_app(args.model), port=args.port)
