// Prints π with so many digits behind the point: pi [DIGITS], 1,000 if not said.
//
// By Machin's formula, π = 16 arctan(1/5) - 4 arctan(1/239), in whole numbers: every digit is exact.
package main

import (
	"fmt"
	"math/big"
	"os"
	"strconv"
)

// arctanOfInverse returns arctan(1/x) in units of 1/unit, and by how many of them it may be off.
func arctanOfInverse(x int64, unit *big.Int) (*big.Int, int64) {
	square := big.NewInt(x * x)
	power := new(big.Int).Quo(unit, big.NewInt(x))
	total := new(big.Int).Set(power)
	term := new(big.Int)
	terms := int64(1)
	for power.Sign() != 0 {
		power.Quo(power, square)
		terms++
		term.Quo(power, big.NewInt(2*terms-1))
		if terms%2 == 0 {
			total.Sub(total, term)
		} else {
			total.Add(total, term)
		}
	}
	return total, 2 * terms
}

func powerOfTen(exponent int64) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(exponent), nil)
}

// piDigits returns the whole part of π times 10 to the power of digits.
func piDigits(digits int64) *big.Int {
	for spare := int64(10); ; spare *= 2 {
		unit := powerOfTen(digits + spare)
		fifth, errorA := arctanOfInverse(5, unit)
		other, errorB := arctanOfInverse(239, unit)
		pi := new(big.Int).Mul(fifth, big.NewInt(16))
		pi.Sub(pi, other.Mul(other, big.NewInt(4)))
		margin := big.NewInt(16*errorA + 4*errorB)
		least := new(big.Int).Sub(pi, margin)
		most := new(big.Int).Add(pi, margin)
		least.Quo(least, powerOfTen(spare))
		most.Quo(most, powerOfTen(spare))
		if least.Cmp(most) == 0 {
			return least
		}
		// A long row of nines or zeros: look further behind it.
	}
}

func main() {
	digits := 1000
	if len(os.Args) > 1 {
		var err error
		if digits, err = strconv.Atoi(os.Args[1]); err != nil || digits < 0 {
			fmt.Fprintf(os.Stderr, "DIGITS must be a whole number, got %q\n", os.Args[1])
			os.Exit(2)
		}
	}
	shown := piDigits(int64(digits)).String()
	if digits == 0 {
		fmt.Println(shown)
		return
	}
	fmt.Printf("%s.%s\n", shown[:1], shown[1:])
}
