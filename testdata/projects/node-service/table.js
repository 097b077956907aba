const isNumber = require("is-number");

for (const word of process.argv.slice(2).concat(["12", "twelve"]))
  console.log(`${word} ${isNumber(word) ? "is" : "is not"} a number`);
