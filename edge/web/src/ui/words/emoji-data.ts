/** Common emoji by the shortcodes that most chat programs share; further names of the same one stand behind it. */
export const CATEGORIES: readonly { readonly name: string; readonly table: string }[] = [
  {
    name: "Smileys",
    table: `😀 grinning|😃 smiley|😄 smile|😁 grin|😆 laughing satisfied|😅 sweat_smile|🤣 rofl|😂 joy|🙂 slightly_smiling_face
🙃 upside_down_face|😉 wink|😊 blush|😇 innocent|🥰 smiling_face_with_three_hearts|😍 heart_eyes|🤩 star_struck|😘 kissing_heart
😗 kissing|😚 kissing_closed_eyes|🥲 smiling_face_with_tear|😋 yum|😛 stuck_out_tongue|😜 stuck_out_tongue_winking_eye|🤪 zany_face
😝 stuck_out_tongue_closed_eyes|🤑 money_mouth_face|🤗 hugs|🤭 hand_over_mouth|🤫 shushing_face|🤔 thinking|🤐 zipper_mouth_face
🤨 raised_eyebrow|😐 neutral_face|😑 expressionless|😶 no_mouth|😏 smirk|😒 unamused|🙄 roll_eyes|😬 grimacing|😌 relieved
😔 pensive|😪 sleepy|🤤 drooling_face|😴 sleeping|😷 mask|🤒 face_with_thermometer|🤕 face_with_head_bandage|🤢 nauseated_face
🤮 vomiting_face|🤧 sneezing_face|🥵 hot_face|🥶 cold_face|🥴 woozy_face|😵 dizzy_face|🤯 exploding_head|🤠 cowboy_hat_face
🥳 partying_face|😎 sunglasses|🤓 nerd_face|🧐 monocle_face|😕 confused|😟 worried|🙁 slightly_frowning_face|😮 open_mouth
😯 hushed|😲 astonished|😳 flushed|🥺 pleading_face|😦 frowning|😧 anguished|😨 fearful|😰 cold_sweat|😥 disappointed_relieved
😢 cry|😭 sob|😱 scream|😖 confounded|😣 persevere|😞 disappointed|😓 sweat|😩 weary|😫 tired_face|🥱 yawning_face|😤 triumph
😡 rage pout|😠 angry|🤬 cursing_face|😈 smiling_imp|👿 imp|💀 skull|💩 poop hankey|🤡 clown_face|👻 ghost|👽 alien|🤖 robot
😺 smiley_cat|😸 smile_cat|😹 joy_cat|😻 heart_eyes_cat|🙈 see_no_evil|🙉 hear_no_evil|🙊 speak_no_evil`,
  },
  {
    name: "People",
    table: `👋 wave|🤚 raised_back_of_hand|✋ hand raised_hand|🖖 vulcan_salute|👌 ok_hand|🤌 pinched_fingers|🤏 pinching_hand|✌️ v
🤞 crossed_fingers|🤟 love_you_gesture|🤘 metal|🤙 call_me_hand|👈 point_left|👉 point_right|👆 point_up_2|👇 point_down|☝️ point_up
👍 +1 thumbsup|👎 -1 thumbsdown|✊ fist|👊 facepunch punch|🤛 fist_left|🤜 fist_right|👏 clap|🙌 raised_hands|👐 open_hands
🤲 palms_up_together|🤝 handshake|🙏 pray|✍️ writing_hand|💅 nail_care|🤳 selfie|💪 muscle|👂 ear|👃 nose|🧠 brain|👀 eyes|👅 tongue
👄 lips|👶 baby|🧒 child|👦 boy|👧 girl|🧑 adult|👨 man|👩 woman|👴 older_man|👵 older_woman|🙍 frowning_person|🙅 no_good|🙆 ok_woman
💁 tipping_hand_person|🙋 raising_hand|🙇 bow|🤦 facepalm|🤷 shrug|👮 cop|🕵️ detective|👷 construction_worker|🤴 prince|👸 princess
🧙 mage|🧚 fairy|🧛 vampire|🧜 merperson|🧝 elf|🧟 zombie|💆 massage|💇 haircut|🚶 walking|🏃 running runner|💃 dancer|🕺 man_dancing
👯 dancers|🧗 climbing|🏄 surfer|🏊 swimmer|🚴 bicyclist|👪 family|👣 footprints`,
  },
  {
    name: "Nature",
    table: `🐶 dog|🐱 cat|🐭 mouse|🐹 hamster|🐰 rabbit|🦊 fox_face|🐻 bear|🐼 panda_face|🐨 koala|🐯 tiger|🦁 lion|🐮 cow|🐷 pig|🐸 frog
🐵 monkey_face|🐔 chicken|🐧 penguin|🐦 bird|🐤 baby_chick|🦆 duck|🦅 eagle|🦉 owl|🐺 wolf|🐗 boar|🐴 horse|🦄 unicorn|🐝 bee|🐛 bug
🦋 butterfly|🐌 snail|🐞 beetle lady_beetle|🐜 ant|🕷️ spider|🐢 turtle|🐍 snake|🦎 lizard|🦖 t-rex|🐙 octopus|🦑 squid|🦀 crab|🐠 tropical_fish
🐟 fish|🐬 dolphin|🐳 whale|🦈 shark|🐘 elephant|🦒 giraffe_face|🐪 dromedary_camel|🐑 sheep|🐐 goat|🦌 deer|🐕 dog2|🐈 cat2|🐓 rooster
🕊️ dove|🐇 rabbit2|🐾 paw_prints feet|🌵 cactus|🎄 christmas_tree|🌲 evergreen_tree|🌳 deciduous_tree|🌴 palm_tree|🌱 seedling|🌿 herb
☘️ shamrock|🍀 four_leaf_clover|🍁 maple_leaf|🍂 fallen_leaf|🍃 leaves|🍄 mushroom|💐 bouquet|🌷 tulip|🌹 rose|🌺 hibiscus|🌸 cherry_blossom
🌼 blossom|🌻 sunflower|🌞 sun_with_face|🌙 crescent_moon|🌍 earth_africa|🌎 earth_americas|🌏 earth_asia|⭐ star|🌟 star2|✨ sparkles|⚡ zap
🔥 fire|💥 boom collision|☀️ sunny|⛅ partly_sunny|☁️ cloud|🌧️ cloud_with_rain|⛈️ thunder_cloud_and_rain|❄️ snowflake|⛄ snowman|💨 dash
💧 droplet|💦 sweat_drops|☔ umbrella|🌈 rainbow|🌊 ocean`,
  },
  {
    name: "Food",
    table: `🍏 green_apple|🍎 apple|🍐 pear|🍊 tangerine orange|🍋 lemon|🍌 banana|🍉 watermelon|🍇 grapes|🍓 strawberry|🍒 cherries|🍑 peach
🥭 mango|🍍 pineapple|🥥 coconut|🥝 kiwi_fruit|🍅 tomato|🍆 eggplant|🥑 avocado|🥦 broccoli|🥒 cucumber|🌶️ hot_pepper|🌽 corn|🥕 carrot
🥔 potato|🥐 croissant|🍞 bread|🥖 baguette_bread|🧀 cheese|🥚 egg|🍳 fried_egg|🥞 pancakes|🥓 bacon|🍗 poultry_leg|🌭 hotdog|🍔 hamburger
🍟 fries|🍕 pizza|🌮 taco|🌯 burrito|🥗 green_salad|🍝 spaghetti|🍜 ramen|🍲 stew|🍛 curry|🍣 sushi|🍱 bento|🍤 fried_shrimp|🍙 rice_ball
🍚 rice|🍦 icecream|🍨 ice_cream|🍩 doughnut|🍪 cookie|🎂 birthday|🍰 cake|🧁 cupcake|🍫 chocolate_bar|🍬 candy|🍭 lollipop|🍿 popcorn
🥛 milk_glass|☕ coffee|🍵 tea|🍶 sake|🍺 beer|🍻 beers|🥂 clinking_glasses|🍷 wine_glass|🥃 tumbler_glass|🍸 cocktail|🍹 tropical_drink
🍾 champagne|🧂 salt`,
  },
  {
    name: "Activities",
    table: `⚽ soccer|🏀 basketball|🏈 football|⚾ baseball|🎾 tennis|🏐 volleyball|🏓 ping_pong|🏸 badminton|🥅 goal_net|⛳ golf|🎣 fishing_pole_and_fish
🥊 boxing_glove|⛸️ ice_skate|🎿 ski|🏆 trophy|🥇 1st_place_medal|🥈 2nd_place_medal|🥉 3rd_place_medal|🏅 medal_sports|🎪 circus_tent
🎭 performing_arts|🎨 art|🎬 clapper|🎤 microphone|🎧 headphones|🎹 musical_keyboard|🥁 drum|🎷 saxophone|🎺 trumpet|🎸 guitar|🎻 violin
🎲 game_die|♟️ chess_pawn|🎯 dart|🎳 bowling|🎮 video_game|🧩 jigsaw|🎉 tada|🎊 confetti_ball|🎈 balloon|🎁 gift|🎀 ribbon|🎃 jack_o_lantern
🎆 fireworks|🎇 sparkler|🎟️ tickets`,
  },
  {
    name: "Travel and things",
    table: `🚗 car red_car|🚕 taxi|🚌 bus|🚑 ambulance|🚒 fire_engine|🚚 truck|🚜 tractor|🚲 bike|🛵 motor_scooter|🏍️ motorcycle|🚨 rotating_light
🚂 steam_locomotive|🚆 train2|🚇 metro|✈️ airplane|🛫 flight_departure|🛬 flight_arrival|🚀 rocket|🛸 flying_saucer|🚁 helicopter|⛵ boat sailboat
🚢 ship|⚓ anchor|🚧 construction|🗺️ world_map|🗽 statue_of_liberty|🏰 european_castle|⛺ camping|🏖️ beach_umbrella|🏔️ mountain_snow|🌋 volcano
🏠 house|🏢 office|🏥 hospital|🏫 school|🌃 night_with_stars|🌅 sunrise|🌇 city_sunset|⌚ watch|📱 iphone|💻 computer|⌨️ keyboard|🖥️ desktop_computer
🖨️ printer|💾 floppy_disk|📷 camera|📹 video_camera|📺 tv|📻 radio|⏰ alarm_clock|⏳ hourglass_flowing_sand|🔋 battery|🔌 electric_plug|💡 bulb
🔦 flashlight|💵 dollar|💳 credit_card|💎 gem|⚖️ balance_scale|🔧 wrench|🔨 hammer|🛠️ hammer_and_wrench|⚙️ gear|🧲 magnet|💣 bomb|🔪 hocho knife
🔮 crystal_ball|🔭 telescope|🔬 microscope|💊 pill|💉 syringe|🧬 dna|🚪 door|🛏️ bed|🚿 shower|🛒 shopping_cart|✉️ envelope|📧 email|📦 package
📜 scroll|📄 page_facing_up|📊 bar_chart|📈 chart_with_upwards_trend|📉 chart_with_downwards_trend|📅 date|📋 clipboard|📌 pushpin|📍 round_pushpin
📎 paperclip|📏 straight_ruler|✂️ scissors|🗑️ wastebasket|🔒 lock|🔓 unlock|🔑 key|📚 books|📖 book|🔖 bookmark|🔗 link|📝 memo pencil|✏️ pencil2
🔍 mag|🔔 bell|🔕 no_bell|📣 mega|📢 loudspeaker|💬 speech_balloon|💭 thought_balloon|👑 crown|👓 eyeglasses|👕 shirt|👖 jeans|👟 athletic_shoe
🎒 school_satchel|🎓 mortar_board|☂️ open_umbrella|💼 briefcase`,
  },
  {
    name: "Symbols",
    table: `❤️ heart|🧡 orange_heart|💛 yellow_heart|💚 green_heart|💙 blue_heart|💜 purple_heart|🖤 black_heart|🤍 white_heart|💔 broken_heart
❣️ heavy_heart_exclamation|💕 two_hearts|💞 revolving_hearts|💓 heartbeat|💗 heartpulse|💖 sparkling_heart|💘 cupid|💝 gift_heart|💯 100
💢 anger|💤 zzz|✅ white_check_mark|☑️ ballot_box_with_check|✔️ heavy_check_mark|❌ x|❎ negative_squared_cross_mark|➕ heavy_plus_sign
➖ heavy_minus_sign|❓ question|❗ exclamation|‼️ bangbang|⁉️ interrobang|⚠️ warning|🚫 no_entry_sign|⛔ no_entry|🔞 underage|♻️ recycle
🆗 ok|🆕 new|🆒 cool|🆓 free|🆘 sos|🔴 red_circle|🟠 orange_circle|🟡 yellow_circle|🟢 green_circle|🔵 blue_circle|🟣 purple_circle|⚫ black_circle
⚪ white_circle|🔝 top|🔜 soon|🔙 back|➡️ arrow_right|⬅️ arrow_left|⬆️ arrow_up|⬇️ arrow_down|🔄 arrows_counterclockwise|▶️ arrow_forward
⏸️ pause_button|🎵 musical_note|🎶 notes|♾️ infinity|🏁 checkered_flag|🚩 triangular_flag_on_post|🏳️ white_flag|🏴‍☠️ pirate_flag|🏳️‍🌈 rainbow_flag
🇩🇪 de|🇬🇧 gb uk|🇺🇸 us|🇫🇷 fr|🇪🇸 es|🇮🇹 it|🇯🇵 jp|🇰🇷 kr|🇨🇳 cn|🇮🇳 india|🇧🇷 brazil|🇪🇺 eu|🇺🇦 ukraine`,
  },
];
