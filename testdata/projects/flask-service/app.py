import os

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/health")
def health():
    return "ok\n"


@app.get("/greet")
def greet():
    return jsonify(greeting=f"hello {request.args.get('name', 'world')}", user=os.geteuid())


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=int(os.environ["PORT"]))
